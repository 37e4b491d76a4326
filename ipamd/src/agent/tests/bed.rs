//! A node for tests: the in-memory cloud, a kernel in memory whose links are the attached ENIs, metadata that can be taken away,
//! and agents that can be stopped or killed. The socket and the store are the real ones.

use crate::agent::clock::Clock;
use crate::agent::kernel::{Converged, Kernel, KernelError, WiredPod};
use crate::agent::metadata::Metadata;
use crate::agent::{AgentError, World, run};
use crate::config::Config;
use ipnet::{IpNet, Ipv4Net};
use spur_cloud::fake::{FakeCloud, World as CloudWorld};
use spur_cloud::{Api, AttachmentStatus, InstanceId, MacAddr};
use spur_cloud_aws::imds::{ImdsError, InstanceIdentity, InterfaceFacts};
use spur_datapath::IfName;
use spur_datapath::conntrack::Translated;
use spur_datapath::node::NodeWanted;
use spur_datapath::pod::PodLink;
use spur_wire::{
    AddReply, AddRequest, Attachment, CheckRequest, DelRequest, Refusal, Request, RequestBody, Response,
    StatusReply, VERSION,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Long enough for anything that these tests wait for on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

#[derive(Default)]
pub(super) struct KernelState {
    pub(super) wanted: Option<NodeWanted>,
    /// ENIs whose links were there at the last comparison.
    ready: BTreeSet<spur_datapath::MacAddr>,
    /// What it was to be made like, each time.
    pub(super) attempts: Vec<NodeWanted>,
    pub(super) broken: bool,
    /// Somebody flushed everything: the next comparison finds a difference.
    pub(super) flushed: bool,
    pub(super) pods: Vec<WiredPod>,
    pub(super) forgotten: Vec<IpAddr>,
    /// Addresses that somebody still sends to.
    pub(super) busy: BTreeSet<IpAddr>,
    /// Host ends of veths.
    pub(super) links: Vec<PodLink>,
    /// Those that are marked.
    pub(super) detached: Vec<IfName>,
    /// What each reaping deleted.
    pub(super) reaped: Vec<Vec<IfName>>,
    /// Walks over the tracked connections that were begun.
    pub(super) walks: u64,
    watchers: Vec<Box<dyn Fn() -> bool + Send>>,
}

/// A kernel whose links are what the cloud has attached.
pub(super) struct FakeKernel {
    cloud: FakeCloud,
    pub(super) state: Mutex<KernelState>,
    /// Whoever holds it keeps a walk over the tracked connections from ending.
    pub(super) walk_gate: tokio::sync::Mutex<()>,
}

impl FakeKernel {
    pub(super) fn new(cloud: FakeCloud) -> Self {
        Self { cloud, state: Mutex::default(), walk_gate: tokio::sync::Mutex::default() }
    }

    pub(super) fn with<T>(&self, act: impl FnOnce(&mut KernelState) -> T) -> T {
        act(&mut self.state.lock().unwrap())
    }

    /// Hardware addresses of the links that are there: one for each attached ENI.
    fn links(&self) -> Vec<spur_datapath::MacAddr> {
        self.cloud.with(|world| {
            let up = |eni: &&spur_cloud::Eni| {
                eni.attachment.as_ref().is_some_and(|at| at.status == AttachmentStatus::Attached)
            };
            world
                .true_enis()
                .values()
                .filter(up)
                .map(|eni| crate::agent::wanted::kernel_mac(eni.mac))
                .collect()
        })
    }
}

impl Kernel for FakeKernel {
    fn converge(&self, wanted: &NodeWanted) -> Result<Converged, KernelError> {
        let attached = self.links();
        self.with(|state| {
            state.attempts.push(wanted.clone());
            if state.broken {
                return Err(KernelError { doing: "prepare the node's kernel", cause: "it is broken".into() });
            }
            let macs = wanted.secondaries.iter().map(|eni| eni.mac).chain([wanted.primary.mac]);
            let ready: BTreeSet<_> = macs.filter(|mac| attached.contains(mac)).collect();
            let changed = state.flushed || state.wanted.as_ref() != Some(wanted) || state.ready != ready;
            (state.flushed, state.wanted, state.ready) = (false, Some(wanted.clone()), ready.clone());
            Ok(Converged {
                ready,
                changes: if changed { vec!["everything".to_owned()] } else { Vec::new() },
                primary_mtu_bytes: 9001,
            })
        })
    }

    fn has_lost(&self, _kept: &NodeWanted, _wanted: &NodeWanted) -> Result<bool, KernelError> {
        Ok(self.with(|state| state.flushed))
    }

    fn wired_pods(&self) -> Result<Vec<WiredPod>, KernelError> {
        Ok(self.with(|state| state.pods.clone()))
    }

    fn host_veths(&self) -> Result<BTreeSet<spur_datapath::MacAddr>, KernelError> {
        Ok(self.with(|state| state.pods.iter().map(|pod| pod.host_mac).collect()))
    }

    fn pod_links(&self) -> Result<Vec<PodLink>, KernelError> {
        Ok(self.with(|state| state.links.clone()))
    }

    fn detach_links(&self, links: &[PodLink]) -> Result<(), KernelError> {
        self.with(|state| {
            state.links.retain(|link| !links.contains(link));
            state.detached.extend(links.iter().map(|link| link.name.clone()));
        });
        Ok(())
    }

    fn reap_links(&self) -> Result<usize, KernelError> {
        Ok(self.with(|state| {
            let detached = std::mem::take(&mut state.detached);
            state.reaped.push(detached.clone());
            detached.len()
        }))
    }

    fn forget_flows(&self, addresses: &[IpAddr]) -> Result<(), KernelError> {
        self.with(|state| state.forgotten.extend(addresses));
        Ok(())
    }

    fn masqueraders(&self, _pods: &[Ipv4Net]) -> Result<Vec<String>, KernelError> {
        Ok(Vec::new())
    }

    fn busy_flows(&self, addresses: &BTreeSet<IpAddr>) -> Result<BTreeSet<IpAddr>, KernelError> {
        Ok(self.with(|state| state.busy.intersection(addresses).copied().collect()))
    }

    fn translated(
        &self,
        _pods: &[Ipv4Net],
        _address: Ipv4Addr,
        _most: usize,
    ) -> Result<Translated, KernelError> {
        let walks = self.with(|state| {
            state.walks += 1;
            state.walks
        });
        drop(self.walk_gate.blocking_lock());
        Ok(Translated { flows: walks, ..Translated::default() })
    }

    fn watch_links(&self, changed: impl Fn() -> bool + Send + 'static) -> Result<(), KernelError> {
        self.with(|state| state.watchers.push(Box::new(changed)));
        Ok(())
    }
}

/// Metadata of the instance, unless it is taken away.
#[derive(Clone)]
pub(super) struct FakeMetadata {
    identity: InstanceIdentity,
    pub(super) away: Arc<Mutex<bool>>,
    pub(super) vpc_cidrs: Arc<Mutex<Vec<IpNet>>>,
}

impl FakeMetadata {
    fn here<T>(&self, value: T) -> Result<T, ImdsError> {
        if *self.away.lock().unwrap() {
            Err(ImdsError::NotFound { path: "/latest/meta-data/mac".to_owned() })
        } else {
            Ok(value)
        }
    }
}

impl Metadata for FakeMetadata {
    async fn identity(&self) -> Result<InstanceIdentity, ImdsError> {
        self.here(self.identity.clone())
    }

    async fn vpc_cidrs(&self, _primary: MacAddr) -> Result<Vec<IpNet>, ImdsError> {
        self.here(self.vpc_cidrs.lock().unwrap().clone())
    }
}

/// A node.
pub(super) struct Bed {
    pub(super) dir: tempfile::TempDir,
    pub(super) cloud: FakeCloud,
    pub(super) kernel: Arc<FakeKernel>,
    pub(super) metadata: FakeMetadata,
    pub(super) config: Config,
    pub(super) boot_id: String,
    /// Called when an agent connects to EC2: it knows who it is and where it belongs, and nothing is prepared yet.
    pub(super) connecting: Arc<dyn Fn() + Send + Sync>,
}

/// An agent on the node.
pub(super) struct Agent {
    thread: Option<JoinHandle<Option<Result<(), AgentError>>>>,
    stop: CancellationToken,
    kill: CancellationToken,
    socket: PathBuf,
    config: watch::Sender<Arc<Config>>,
}

impl Bed {
    /// An m5.large (3 ENIs with 10 addresses) in 10.0.1.0/24, whose clock runs ten times as fast as ours.
    pub(super) fn new() -> Self {
        let mut world = CloudWorld::new();
        let vpc = world.add_vpc("a", &[net("10.0.0.0/16"), net("10.7.0.0/16")]);
        let subnet = world.add_subnet("a", &vpc, "zone-a", net("10.0.1.0/24"));
        let instance = world.add_instance("a", "m5.large", &subnet).unwrap();
        world.set_delays(Duration::from_millis(500), Duration::from_millis(500));
        let identity = identity(&world, instance);
        let cloud = FakeCloud::new(world);
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::parse("").unwrap();
        config.socket = dir.path().join("run/agent.sock");
        config.state_dir = dir.path().join("state");
        config.spool_dir = dir.path().join("spool");
        config.cni.conf_dir = dir.path().join("net.d");
        config.add_wait = Duration::from_secs(10);
        // Agents of several tests would want the same port.
        config.metrics_listen = None;
        Self {
            kernel: Arc::new(FakeKernel::new(cloud.clone())),
            metadata: FakeMetadata {
                vpc_cidrs: Arc::new(Mutex::new(identity.primary.vpc_cidrs.clone())),
                identity,
                away: Arc::default(),
            },
            dir,
            cloud,
            config,
            boot_id: "boot-1".to_owned(),
            connecting: Arc::new(|| {}),
        }
    }

    pub(super) fn start(&self) -> Agent {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let stop = CancellationToken::new();
        let (cloud, metadata, kernel) = (self.cloud.clone(), self.metadata.clone(), Arc::clone(&self.kernel));
        let (config, seen) = watch::channel(Arc::new(self.config.clone()));
        let (boot_id, stopped) = (self.boot_id.clone(), stop.clone());
        let passing = self.cloud.clone();
        let notified = Arc::clone(&self.kernel);
        runtime.spawn(async move {
            let mut links = Vec::new();
            loop {
                tokio::time::sleep(Duration::from_millis(10)).await;
                passing.with(|world| world.advance(Duration::from_millis(100)));
                // As the kernel does: only when a link came or went.
                let now = notified.links();
                if now != links {
                    links = now;
                    notified.with(|state| state.watchers.retain(|watcher| watcher()));
                }
            }
        });
        let kill = CancellationToken::new();
        let killed = kill.clone();
        let connecting = Arc::clone(&self.connecting);
        let connect = async move |_: &InstanceIdentity| {
            connecting();
            cloud
        };
        let thread = std::thread::spawn(move || {
            let result = runtime.block_on(killed.run_until_cancelled(async move {
                let world = World { metadata, kernel, clock: Clock::start(), boot_id };
                run(seen, world, connect, stopped).await
            }));
            runtime.shutdown_timeout(Duration::from_secs(5));
            result
        });
        Agent { thread: Some(thread), stop, kill, socket: self.config.socket.clone(), config }
    }

    /// An agent that can serve ADD.
    pub(super) fn start_ready(&self) -> Agent {
        let agent = self.start();
        wait_until("ready", || agent.status().is_some_and(|status| status.ready));
        agent
    }

    /// Calls to EC2 so far, by action.
    pub(super) fn calls(&self) -> BTreeMap<Api, usize> {
        let mut calls = BTreeMap::new();
        self.cloud
            .with(|world| world.calls().iter().for_each(|call| *calls.entry(call.api).or_default() += 1));
        calls
    }
}

fn identity(world: &CloudWorld, instance: InstanceId) -> InstanceIdentity {
    let primary = world.true_enis().values().next().unwrap();
    InstanceIdentity {
        instance,
        instance_type: "m5.large".parse().unwrap(),
        region: "region-a".parse().unwrap(),
        zone: "zone-a".parse().unwrap(),
        primary: InterfaceFacts {
            mac: primary.mac,
            eni: primary.id.clone(),
            device_index: spur_cloud::DeviceIndex(0),
            primary_address: primary.primary,
            vpc: primary.vpc.clone(),
            vpc_cidrs: vec![IpNet::V4(net("10.0.0.0/16")), IpNet::V4(net("10.7.0.0/16"))],
            subnet: primary.subnet.clone(),
            subnet_cidr: IpNet::V4(net("10.0.1.0/24")),
            security_groups: primary.security_groups.clone(),
        },
        secondary: BTreeMap::new(),
    }
}

impl Agent {
    /// As an operator does.
    pub(super) fn reconfigure(&self, change: impl FnOnce(&mut Config)) {
        self.config.send_modify(|config| change(Arc::make_mut(config)));
    }

    pub(super) fn ask(&self, body: RequestBody) -> Option<Response> {
        ask(&self.socket, body)
    }

    /// As the plugin of another network asks.
    pub(super) fn ask_in(&self, network: &str, body: RequestBody) -> Option<Response> {
        send(&self.socket, &frame(network, body))
    }

    pub(super) fn status(&self) -> Option<StatusReply> {
        match self.ask(RequestBody::Status) {
            Some(Response::Status(status)) => Some(status),
            _ => None,
        }
    }

    pub(super) fn add(&self, container: &str) -> Result<AddReply, Refusal> {
        add(&self.socket, container)
    }

    pub(super) fn address(&self, container: &str) -> IpAddr {
        self.add(container).unwrap_or_else(|refusal| panic!("{container}: {refusal:?}")).addresses[0]
    }

    pub(super) fn del(&self, container: &str) -> Vec<IpAddr> {
        match self.ask(RequestBody::Del(DelRequest { attachment: attachment(container) })) {
            Some(Response::Del(reply)) => reply.addresses,
            other => panic!("{container}: {other:?}"),
        }
    }

    pub(super) fn held(&self, container: &str) -> Vec<IpAddr> {
        match self.ask(RequestBody::Check(CheckRequest { attachment: attachment(container) })) {
            Some(Response::Check(reply)) => reply.addresses,
            other => panic!("{container}: {other:?}"),
        }
    }

    /// ADDs that run at the same time.
    pub(super) fn add_all(&self, containers: &[String]) -> Vec<Result<AddReply, Refusal>> {
        std::thread::scope(|scope| {
            let adds: Vec<_> =
                containers.iter().map(|container| scope.spawn(|| add(&self.socket, container))).collect();
            adds.into_iter().map(|add| add.join().unwrap()).collect()
        })
    }

    /// As SIGTERM does.
    pub(super) fn stop(&mut self) -> Result<(), AgentError> {
        self.stop.cancel();
        self.result()
    }

    /// How it ended.
    pub(super) fn result(&mut self) -> Result<(), AgentError> {
        let started = Instant::now();
        let result = self.thread.take().unwrap().join().unwrap().expect("nobody killed it");
        assert!(started.elapsed() < Duration::from_secs(6), "stopping took {:?}", started.elapsed());
        result
    }

    /// As SIGKILL does: every task ends where it is. (A commit that is being written is finished or lost, as it would be.)
    pub(super) fn kill(self) {
        drop(self);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; the test fails for its own reason.
            let _ = thread.join();
        }
    }
}

pub(super) fn attachment(container: &str) -> Attachment {
    Attachment { container_id: container.to_owned(), if_name: "eth0".to_owned() }
}

pub(super) fn add_request(container: &str) -> RequestBody {
    RequestBody::Add(AddRequest {
        attachment: attachment(container),
        pod: None,
        netns: "/run/netns/x".to_owned(),
        host_if_name: "eni00000000000".to_owned(),
    })
}

pub(super) fn request(body: RequestBody) -> Vec<u8> {
    frame("spur", body)
}

fn frame(network: &str, body: RequestBody) -> Vec<u8> {
    let mut frame = Vec::new();
    let network = network.to_owned();
    spur_wire::write_frame(&mut frame, &Request { version: VERSION, network, body }).unwrap();
    frame
}

fn ask(socket: &PathBuf, body: RequestBody) -> Option<Response> {
    send(socket, &request(body))
}

fn send(socket: &PathBuf, request: &[u8]) -> Option<Response> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).ok()?;
    spur_wire::read_frame(&mut stream).ok()
}

fn add(socket: &PathBuf, container: &str) -> Result<AddReply, Refusal> {
    match ask(socket, add_request(container)) {
        Some(Response::Add(reply)) => Ok(reply),
        Some(Response::Refused(refusal)) => Err(refusal),
        other => panic!("{container}: {other:?}"),
    }
}

pub(super) fn unix_millis() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

pub(super) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lets the agent work for a while, where nothing shows that it is done. In short sleeps: a machine that stands still for a second ends one
/// of them, and not all.
pub(super) fn pause(time: Duration) {
    const SLICE: Duration = Duration::from_millis(5);
    for _ in 0..time.as_millis() / SLICE.as_millis() {
        std::thread::sleep(SLICE);
    }
}
