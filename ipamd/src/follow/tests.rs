//! Tests of the configuration that changes: what is taken up, what is not, and what is said.

use super::*;
use crate::config::LogFormat;

struct Bed {
    _dir: tempfile::TempDir,
    follower: Follower,
}

impl Bed {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.yaml");
        std::fs::write(&path, text).unwrap();
        let config = watch::channel(Arc::new(Config::parse(text).unwrap())).0;
        let stamp = Stamp::of(&path);
        Self { _dir: dir, follower: Follower { path, config, read: stamp, seen: stamp } }
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.follower.path, text).unwrap();
    }

    fn warm(&self) -> u32 {
        self.follower.config.borrow().pool.warm_ip_target
    }
}

#[test]
fn a_file_is_taken_up_when_it_stayed_the_same_for_one_look() {
    let mut bed = Bed::new("pool: {warmIpTarget: 3}");
    bed.follower.look();
    assert_eq!(bed.warm(), 3);
    // As a shell does: emptied first. The defaults are not what anybody wants.
    bed.write("");
    bed.follower.look();
    assert_eq!(bed.warm(), 3);
    bed.write("pool: {warmIpTarget: 7}");
    bed.follower.look();
    assert_eq!(bed.warm(), 3);
    bed.follower.look();
    assert_eq!(bed.warm(), 7);
    // As an editor and Kubernetes do: another file under the same name.
    let other = bed.follower.path.with_extension("new");
    std::fs::write(&other, "pool: {warmIpTarget: 8}").unwrap();
    std::fs::rename(&other, &bed.follower.path).unwrap();
    bed.follower.look();
    bed.follower.look();
    assert_eq!(bed.warm(), 8);
    std::fs::remove_file(&bed.follower.path).unwrap();
    (0..3).for_each(|_| bed.follower.look());
    assert_eq!(bed.warm(), 8, "a file that is gone says nothing");
}

#[test]
fn a_mistake_anywhere_changes_nothing_and_who_asks_is_served_at_once() {
    let mut bed = Bed::new("pool: {warmIpTarget: 3}");
    bed.write("mtuBytes: huge\npool: {warmIpTarget: 7}");
    bed.follower.read();
    assert_eq!(bed.warm(), 3);
    bed.write("pool: {warmIpTarget: 7}");
    bed.follower.read();
    assert_eq!(bed.warm(), 7);
}

#[test]
fn what_cannot_change_keeps_its_value_and_the_rest_is_taken_up() {
    let mut bed = Bed::new("socket: /a");
    bed.write("socket: /b\nlog: {format: text}\npool: {warmIpTarget: 7}");
    bed.follower.read();
    let config = Arc::clone(&bed.follower.config.borrow());
    assert_eq!(
        (config.socket.as_path(), config.cni.socket_path.as_path()),
        (Path::new("/a"), Path::new("/a"))
    );
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(bed.warm(), 7);
}
