//! The contract on vpcsim: each test has a vpcsim of its own, without network, so no privilege is needed.

use localstack_tests::{World, contract, for_each_contract};

macro_rules! on_vpcsim {
    ($($name:ident)*) => {
        $(
            #[tokio::test]
            async fn $name() -> anyhow::Result<()> {
                contract::$name(&World::vpcsim().await?).await
            }
        )*
    };
}

for_each_contract!(on_vpcsim);
