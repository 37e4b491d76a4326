//! The contract on a real LocalStack. `localstack-tests/run` starts one and runs these; without it they fail.

use localstack_tests::{World, contract, for_each_contract};

macro_rules! on_localstack {
    ($($name:ident)*) => {
        $(
            #[tokio::test]
            #[ignore = "needs LocalStack: localstack-tests/run"]
            async fn $name() -> anyhow::Result<()> {
                contract::$name(&World::localstack().await?).await
            }
        )*
    };
}

for_each_contract!(on_localstack);
