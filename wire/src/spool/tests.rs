//! What must hold between the plugin that writes a release and the agent that reads it later: nothing is lost, nothing is
//! mistaken for another, and one bad file does not hide the good ones.
//! Durability itself (a power loss) is not tested here, only that the order of calls leaves no half-written name.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn release(container: &str, at: u64) -> SpooledRelease {
    SpooledRelease {
        version: 1,
        network: "spur".into(),
        request: DelRequest {
            attachment: Attachment { container_id: container.into(), if_name: "eth0".into() },
        },
        released_unix_ms: at,
    }
}

#[test]
fn releases_come_back_oldest_first() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("made/on/demand");
    release("b", 2).write(&dir).unwrap();
    release("c", 3).write(&dir).unwrap();
    release("a", 1).write(&dir).unwrap();
    let spool = SpooledRelease::read_all(&dir).unwrap();
    let found: Vec<_> = spool.releases.iter().map(|(_, release)| release.clone()).collect();
    assert_eq!(found, [release("a", 1), release("b", 2), release("c", 3)]);
    assert!(spool.broken.is_empty());
}

#[test]
fn a_repeated_release_replaces_its_file() {
    let dir = tempfile::tempdir().unwrap();
    release("a", 1).write(dir.path()).unwrap();
    let path = release("a", 9).write(dir.path()).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    assert_eq!(SpooledRelease::read(&path).unwrap(), Some(release("a", 9)));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_file_tells_network_container_and_interface_apart() {
    let path = |network: &str, container: &str, interface: &str| {
        let attachment = Attachment { container_id: container.into(), if_name: interface.into() };
        SpooledRelease::path(Path::new("/s"), network, &attachment)
    };
    let paths = [
        path("n", "c", "eth0"),
        path("n", "ceth", "0"),
        path("nc", "", "eth0"),
        path("n", "c", "eth1"),
        path("m", "c", "eth0"),
    ];
    for (index, one) in paths.iter().enumerate() {
        assert!(paths[index + 1..].iter().all(|other| other != one), "{one:?}");
    }
}

#[test]
fn no_directory_means_no_release() {
    let dir = tempfile::tempdir().unwrap();
    let spool = SpooledRelease::read_all(&dir.path().join("absent")).unwrap();
    assert!(spool.releases.is_empty() && spool.broken.is_empty());
}

#[test]
fn a_broken_file_is_reported_and_does_not_hide_the_others() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("torn.json"), b"{\"version\":1").unwrap();
    fs::write(dir.path().join("long.json"), vec![b' '; 1_100_000]).unwrap();
    fs::write(dir.path().join("half.tmp-77"), b"{").unwrap();
    release("a", 1).write(dir.path()).unwrap();
    let spool = SpooledRelease::read_all(dir.path()).unwrap();
    assert_eq!(spool.releases.len(), 1);
    let mut broken: Vec<_> = spool.broken.iter().map(ToString::to_string).collect();
    broken.sort();
    assert!(broken[0].contains("long.json is longer"), "{broken:?}");
    assert!(broken[1].contains("torn.json is not"), "{broken:?}");
    assert_eq!(broken.len(), 2, "{broken:?}");
}

#[test]
fn removing_twice_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = release("a", 1).write(dir.path()).unwrap();
    assert!(SpooledRelease::remove(&path).unwrap());
    assert!(!SpooledRelease::remove(&path).unwrap());
    assert_eq!(SpooledRelease::read(&path).unwrap(), None);
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), b"").unwrap();
    let error = release("a", 1).write(&dir.path().join("file/below")).unwrap_err();
    assert!(matches!(error, SpoolError::Create(..)), "{error:?}");
}

#[test]
fn what_a_killed_writer_left_goes_when_nobody_can_be_at_it_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let kept = release("a", 1).write(dir.path()).unwrap();
    let half = dir.path().join("abc.tmp-77");
    fs::write(&half, b"{").unwrap();
    fs::write(dir.path().join("notes.txt"), b"somebody's").unwrap();
    let now = fs::metadata(&half).unwrap().modified().unwrap();
    for (age, removed) in [(0, 0), (60, 0), (61, 1), (61, 0)] {
        assert_eq!(
            SpooledRelease::tidy(dir.path(), now + Duration::from_secs(age)).unwrap(),
            removed,
            "{age} s"
        );
    }
    assert!(!half.exists() && kept.exists() && dir.path().join("notes.txt").exists());
    // A clock that was set back shows files from the future.
    fs::write(&half, b"{").unwrap();
    assert_eq!(SpooledRelease::tidy(dir.path(), now - Duration::from_secs(3600)).unwrap(), 0);
    assert_eq!(SpooledRelease::tidy(&dir.path().join("absent"), now).unwrap(), 0);
}
