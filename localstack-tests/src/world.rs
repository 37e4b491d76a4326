//! The world that a contract runs in: a client, and where things are. Both emulators describe theirs in the same JSON.

use crate::difference::{Difference, Emulator};
use crate::repair;
use crate::vpcsim::Vpcsim;
use anyhow::{Context, ensure};
use serde_json::Value;
use spur_cloud::{
    AddressRequest, ClientToken, Cloud, CloudError, CreateEni, Eni, EniId, EniQuery, EniStatus, ErrorClass,
    InstanceId, SecurityGroupId, Subnet, SubnetId, SubnetQuery, VpcId,
};
use spur_cloud_aws::{AwsCloud, AwsOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::{Duration, SystemTime};

/// The tag by which contracts find what `contract.yaml` gave them.
const TAG: &str = "contract";

/// An instance of the world.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its id.
    pub instance: InstanceId,
    /// Where its primary ENI is.
    pub subnet: SubnetId,
}

/// An emulator with the world of `contract.yaml` in it.
#[derive(Debug)]
pub struct World {
    /// Who plays EC2.
    pub emulator: Emulator,
    /// The client under test.
    pub cloud: AwsCloud,
    /// The same without any repair between it and the emulator.
    pub bare: AwsCloud,
    /// The VPC.
    pub vpc: VpcId,
    nodes: BTreeMap<String, Node>,
    _vpcsim: Option<Vpcsim>,
}

impl World {
    /// The LocalStack that `localstack-tests/run` started.
    ///
    /// # Errors
    /// When there is none: a missing LocalStack is a failure, never a reason to skip.
    pub async fn localstack() -> anyhow::Result<Self> {
        let line = std::env::var("SPUR_LOCALSTACK_WORLD")
            .context("no LocalStack: run these tests with localstack-tests/run")?;
        let description: Value =
            serde_json::from_str(&line).context("the description of LocalStack's world")?;
        let upstream = text(&description, "endpoint")?.trim_start_matches("http://").parse();
        let proxy = repair::start(upstream.context("LocalStack's address")?).await?;
        Self::new(Emulator::LocalStack, &description, &format!("http://{proxy}"), None).await
    }

    /// A vpcsim of its own for this contract.
    ///
    /// # Errors
    /// When it is not built or does not start.
    pub async fn vpcsim() -> anyhow::Result<Self> {
        let (process, line) = Vpcsim::start()?;
        let description: Value = serde_json::from_str(&line).context("the description of vpcsim's world")?;
        let endpoint = text(&description, "endpoint")?.to_owned();
        Self::new(Emulator::Vpcsim, &description, &endpoint, Some(process)).await
    }

    async fn new(
        emulator: Emulator,
        from: &Value,
        endpoint: &str,
        vpcsim: Option<Vpcsim>,
    ) -> anyhow::Result<Self> {
        let mut options = AwsOptions::new(text(from, "region")?.parse()?);
        let (key, secret) = (text(from, "accessKeyId")?, text(from, "secretAccessKey")?);
        options.endpoint = Some(endpoint.to_owned());
        let cloud = AwsCloud::with_credentials(&options, key, secret).await;
        options.endpoint = Some(text(from, "endpoint")?.to_owned());
        let bare = AwsCloud::with_credentials(&options, key, secret).await;
        let mut nodes = BTreeMap::new();
        for node in from["nodes"].as_array().context("nodes is a list")? {
            let (instance, subnet) = (text(node, "instanceId")?.parse()?, text(node, "subnet")?.parse()?);
            nodes.insert(text(node, "name")?.to_owned(), Node { instance, subnet });
        }
        let vpc = text(from, "vpc")?.parse()?;
        Ok(Self { emulator, cloud, bare, vpc, nodes, _vpcsim: vpcsim })
    }

    /// The node of this name.
    pub(crate) fn node(&self, name: &str) -> anyhow::Result<&Node> {
        self.nodes.get(name).with_context(|| format!("the world has no node {name}"))
    }

    /// The subnet of this name.
    pub(crate) async fn subnet(&self, name: &str) -> anyhow::Result<Subnet> {
        let query = SubnetQuery::Tagged(self.vpc.clone(), tag(name));
        let found = self.cloud.subnets(&query).await?;
        found.into_iter().next().with_context(|| format!("the world has no subnet {name}"))
    }

    /// The security groups that carry this value of the tag.
    pub(crate) async fn groups(&self, name: &str) -> anyhow::Result<BTreeSet<SecurityGroupId>> {
        Ok(self.cloud.security_groups(&self.vpc, &tag(name)).await?)
    }

    /// A wish for an ENI in the subnet, with a token of its own.
    pub(crate) async fn wanted(
        &self,
        subnet: &SubnetId,
        request: AddressRequest,
    ) -> anyhow::Result<CreateEni> {
        Ok(CreateEni {
            subnet: subnet.clone(),
            security_groups: self.groups("pods").await?,
            request,
            description: "made by a contract".to_owned(),
            tags: tag("eni"),
            token: token()?,
        })
    }

    /// A new ENI in the subnet of this name, with so many secondary addresses, ready for use.
    pub(crate) async fn create(&self, subnet: &str, count: u32) -> anyhow::Result<Eni> {
        let subnet = self.subnet(subnet).await?;
        let wanted = self.wanted(&subnet.id, AddressRequest::Count(count)).await?;
        let eni = self.cloud.create_eni(&wanted).await?;
        self.until(&eni.id, |eni| eni.status == EniStatus::Available).await
    }

    /// The primary ENI of the node of this name.
    pub(crate) async fn primary(&self, node: &str) -> anyhow::Result<EniId> {
        let query = EniQuery::OfInstance(self.node(node)?.instance.clone());
        let enis = self.cloud.enis(&query).await?;
        let is_primary =
            |eni: &&Eni| eni.attachment.as_ref().is_some_and(|at| (at.card.0, at.device_index.0) == (0, 0));
        let primary = enis.iter().find(is_primary);
        primary.map(|eni| eni.id.clone()).with_context(|| format!("{node} has no primary ENI"))
    }

    /// The ENI as it is now.
    pub(crate) async fn eni(&self, id: &EniId) -> anyhow::Result<Eni> {
        let found = self.cloud.enis(&EniQuery::ByIds(BTreeSet::from([id.clone()]))).await?;
        found.into_iter().next().with_context(|| format!("{id} is not in the answer"))
    }

    /// Reads the ENI until it is as wanted, or for ten seconds.
    pub(crate) async fn until(&self, id: &EniId, wanted: impl Fn(&Eni) -> bool) -> anyhow::Result<Eni> {
        for _ in 0..200 {
            let eni = self.eni(id).await?;
            if wanted(&eni) {
                return Ok(eni);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("{id} does not become what it should: {:?}", self.eni(id).await?)
    }

    /// Asserts EC2's behaviour, or of the emulator that is known to differ its own.
    pub(crate) fn settle<T>(&self, known: &Difference, seen: &T, ec2: &T, instead: &T) -> anyhow::Result<()>
    where
        T: PartialEq + Debug,
    {
        let (name, about) = (self.emulator.name(), known.about);
        if known.wrong != self.emulator {
            ensure!(seen == ec2, "{about}: {name} gives {seen:?}, EC2 {ec2:?} ({})", known.source);
        } else if seen == ec2 {
            anyhow::bail!("{about}: {name} now does what EC2 does; remove the difference");
        } else {
            ensure!(
                seen == instead,
                "{about}: {name} gives {seen:?}, neither EC2's {ec2:?} nor its own {instead:?}"
            );
        }
        Ok(())
    }
}

/// The class of a failure; none for a success.
pub(crate) fn class<T>(result: &Result<T, CloudError>) -> Option<ErrorClass> {
    result.as_ref().err().map(CloudError::class)
}

/// Asserts that the call failed so.
pub(crate) fn refused<T: Debug>(result: &Result<T, CloudError>, wanted: ErrorClass) -> anyhow::Result<()> {
    ensure!(class(result) == Some(wanted), "expected a failure of class {wanted:?}, got {result:?}");
    Ok(())
}

/// The contract tag with this value.
pub(crate) fn tag(value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(TAG.to_owned(), value.to_owned())])
}

/// A token that nobody used before: the worlds of LocalStack outlive a run only by accident, but tokens are cheap.
pub(crate) fn token() -> anyhow::Result<ClientToken> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("a clock after 1970")?;
    Ok(ClientToken(format!("{}-{}", std::process::id(), since.as_nanos())))
}

fn text<'v>(value: &'v Value, key: &str) -> anyhow::Result<&'v str> {
    value[key].as_str().with_context(|| format!("{key} is a text"))
}
