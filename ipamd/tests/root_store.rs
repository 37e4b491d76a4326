//! The store on a disk that is full: what cannot be stored is refused, what was stored stays, and the store goes on when there is
//! room again. Mounts a small tmpfs in a directory of the test's own.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail their test")]

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use spur_ipamd::store::{Origin, Rows, Store, Table, Write};
use std::path::{Path, PathBuf};

struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(path: PathBuf) -> Self {
        std::fs::create_dir(&path).unwrap();
        mount("tmpfs", &path, "tmpfs", MountFlags::empty(), Some(c"size=1536k"))
            .expect("this test needs root");
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn put(key: &str, length: usize) -> [Write; 1] {
    [Write { table: Table::Assignments, key: key.to_owned(), value: Some(vec![b'x'; length]) }]
}

fn open(dir: &Path) -> (Store, Rows, Origin) {
    Store::open(dir, |rows| Ok(rows.clone())).unwrap()
}

#[test]
#[ignore = "needs root"]
fn a_full_disk_refuses_grants_loses_none_and_is_got_over() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SmallDisk::at(dir.path().join("disk"));
    let state = disk.0.join("state");
    let (mut store, ..) = open(&state);
    store.commit(&put("before", 100)).unwrap();
    let filler = disk.0.join("filler");
    // Ends with "no space left": that is the point.
    let _ = std::fs::write(&filler, vec![0; 4 << 20]);
    let mut refused = 0;
    for number in 0..40 {
        refused += usize::from(store.commit(&put(&format!("full-{number}"), 50_000)).is_err());
    }
    assert!(refused > 0, "the disk was not full");
    std::fs::remove_file(&filler).unwrap();
    store.commit(&put("after", 100)).unwrap();
    drop(store);
    let (_store, rows, origin) = open(&state);
    assert_eq!(origin, Origin::Restored);
    for key in ["before", "after"] {
        assert!(rows.contains_key(&(Table::Assignments, key.to_owned())), "{key} is lost");
    }
    assert_eq!(rows.len(), 2 + 40 - refused, "what was accepted is there, what was refused is not");
}
