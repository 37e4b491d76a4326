//! A store that is damaged, or that the file system does not give, while pods run: they keep address and traffic, those that come get others'
//! addresses never, and DEL of the old ones is understood.

use crate::common::{add_pods, quick_world};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use spur_e2e::checks::Placed;
use spur_e2e::rest::Rest;
use spur_e2e::runtime::Pod;
use spur_e2e::torture::flows::Flow;
use spur_e2e::torture::views::show;
use spur_e2e::traffic::{Echo, ask};
use spur_e2e::world::World;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn file(world: &World) -> PathBuf {
    world.nodes[0].dir().join("state/agent.redb")
}

fn log(world: &World) -> String {
    std::fs::read_to_string(world.nodes[0].log()).unwrap()
}

fn wait_for(world: &World, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}\n{}", log(world));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// STATUS through the plugin: success, or the words of the refusal.
fn status(world: &World, pod: &Pod) -> Result<(), String> {
    let outcome = world.runtime(0).unwrap().execute("STATUS", pod, &pod.netns_path()).unwrap();
    if outcome.success { Ok(()) } else { Err(outcome.failure()) }
}

/// Every pod answers, and no two have the same address.
#[track_caller]
fn assert_sound(world: &World, pods: &[Placed]) {
    let addresses: BTreeSet<_> = pods.iter().map(|placed| placed.pod.address.unwrap()).collect();
    assert_eq!(addresses.len(), pods.len(), "an address was given twice: {pods:?}");
    let _echo = Echo::start(&pods.iter().map(|placed| &placed.pod.netns).collect::<Vec<_>>()).unwrap();
    let targets: Vec<_> = addresses.iter().copied().collect();
    let seen = ask(&world.nodes[0].netns, &targets).unwrap();
    assert_eq!(seen.len(), targets.len(), "only {seen:?} of {targets:?} answer");
}

/// No flow was cut off; then the pods go, and the world is as before.
fn end(world: &World, pods: &[Placed], flows: [Flow; 2], before: &Rest) {
    for flow in &flows {
        assert_eq!(flow.complaint(), None);
    }
    drop(flows);
    let runtime = world.runtime(0).unwrap();
    for placed in pods {
        runtime.del(&placed.pod).unwrap();
    }
    before.regain(world, &|| Ok(())).unwrap();
}

/// Does something to a file.
type Damage = fn(&Path);

/// What may become of a file while the agent is away.
const DAMAGES: [(&str, Damage); 6] = [
    ("empty", |file| std::fs::write(file, "").unwrap()),
    ("cut short", |file| {
        let bytes = std::fs::read(file).unwrap();
        std::fs::write(file, &bytes[..bytes.len() / 3]).unwrap();
    }),
    ("garbage", |file| std::fs::write(file, "not a store at all".repeat(1000)).unwrap()),
    ("of a newer format", |file| {
        let mut bytes = std::fs::read(file).unwrap();
        (bytes[64], bytes[192]) = (200, 200);
        std::fs::write(file, bytes).unwrap();
    }),
    ("torn", |file| {
        let mut bytes = std::fs::read(file).unwrap();
        // Every other page but the header's is as a disk leaves it that lied about what it wrote.
        bytes.chunks_mut(4096).skip(1).step_by(2).for_each(|page| page.fill(0));
        std::fs::write(file, bytes).unwrap();
    }),
    ("a directory", |file| {
        std::fs::remove_file(file).unwrap();
        std::fs::create_dir(file).unwrap();
    }),
];

#[test]
#[ignore = "needs root"]
fn a_damaged_store_is_set_aside_and_no_live_pod_is_hurt() {
    let world = quick_world("damage", 1);
    world.start_agent(0).unwrap();
    let before = Rest::reach(&world, &|| Ok(())).unwrap();
    // The first two live through everything, and so do flows between them.
    let mut pods = add_pods(&world, 0, 1..=4);
    let flows = Flow::between(&pods[0].pod, &pods[1].pod).unwrap();
    let runtime = world.runtime(0).unwrap();
    let mut number = 10;
    for (round, (damage, spoil)) in DAMAGES.into_iter().enumerate() {
        let kept: Vec<_> = pods.iter().map(|placed| placed.pod.address).collect();
        world.nodes[0].kill_agent().unwrap();
        spoil(&file(&world));
        world.start_agent(0).unwrap();
        wait_for(&world, damage, || log(&world).matches("was set aside").count() > round);
        wait_for(&world, "ready", || status(&world, &pods[0].pod).is_ok());
        assert_sound(&world, &pods);
        assert_eq!(pods.iter().map(|placed| placed.pod.address).collect::<Vec<_>>(), kept);
        // One that was there before goes, and two come.
        let old = pods.remove(2);
        runtime.del(&old.pod).unwrap();
        for _ in 0..2 {
            number += 1;
            pods.extend(add_pods(&world, 0, number..=number));
        }
        assert_sound(&world, &pods);
        let shown = show(&file(&world)).unwrap();
        assert_eq!(shown["holdings"].as_array().unwrap().len(), pods.len(), "{damage}: {shown:#}");
    }
    let aside = std::fs::read_dir(file(&world).parent().unwrap()).unwrap();
    let aside =
        aside.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("unusable"));
    assert!(aside.count() >= 4, "what was set aside is not kept");
    end(&world, &pods, flows, &before);
    world.down().unwrap();
}

/// The state directory on a file system of its own.
struct Disk(PathBuf);

impl Disk {
    fn below(state: &Path) -> Self {
        let kept = state.with_extension("kept");
        std::fs::rename(state, &kept).unwrap();
        std::fs::create_dir(state).unwrap();
        mount("tmpfs", state, "tmpfs", MountFlags::empty(), Some(c"size=3m")).expect("this test needs root");
        let disk = Self(state.to_owned());
        for entry in std::fs::read_dir(&kept).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), state.join(entry.file_name())).unwrap();
        }
        disk
    }

    fn read_only(&self, yes: bool) {
        let flags = if yes { MountFlags::RDONLY } else { MountFlags::empty() };
        mount_remount(&self.0, flags, "size=3m").unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
#[ignore = "needs root"]
fn a_disk_that_is_full_or_read_only_is_waited_for_and_pods_live_on() {
    let world = quick_world("disk", 1);
    world.start_agent(0).unwrap();
    let before = Rest::reach(&world, &|| Ok(())).unwrap();
    let mut pods = add_pods(&world, 0, 1..=3);
    let flows = Flow::between(&pods[0].pod, &pods[1].pod).unwrap();
    let runtime = world.runtime(0).unwrap();
    world.nodes[0].kill_agent().unwrap();
    let disk = Disk::below(&world.nodes[0].dir().join("state"));

    disk.read_only(true);
    world.start_agent(0).unwrap();
    wait_for(&world, "a word about it", || log(&world).contains("Read-only file system"));
    let refused = status(&world, &pods[0].pod).unwrap_err();
    assert!(refused.contains("code 50") && refused.contains("Read-only file system"), "{refused}");
    assert_sound(&world, &pods);
    // A pod that goes meanwhile is deleted, and its address given back later.
    runtime.del(&pods.pop().unwrap().pod).unwrap();
    disk.read_only(false);
    wait_for(&world, "ready by itself", || status(&world, &pods[0].pod).is_ok());
    pods.extend(add_pods(&world, 0, 4..=4));
    assert_sound(&world, &pods);

    // A damaged store on a full disk: there is no room for another one.
    world.nodes[0].kill_agent().unwrap();
    std::fs::write(file(&world), "garbage").unwrap();
    let filler = disk.0.join("filler");
    // Ends with "no space left": that is the point.
    let _ = std::fs::write(&filler, vec![0; 8 << 20]);
    world.start_agent(0).unwrap();
    wait_for(&world, "a word about it", || log(&world).contains("No space left on device"));
    assert_sound(&world, &pods);
    std::fs::remove_file(&filler).unwrap();
    wait_for(&world, "ready by itself", || status(&world, &pods[0].pod).is_ok());
    assert!(log(&world).contains("was set aside"), "it was taken for a new node's");
    pods.extend(add_pods(&world, 0, 5..=6));
    assert_sound(&world, &pods);

    end(&world, &pods, flows, &before);
    world.nodes[0].stop_agent().unwrap();
    drop(disk);
    world.down().unwrap();
}
