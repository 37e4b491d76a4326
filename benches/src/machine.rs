//! What the numbers were measured on: they mean little on another machine, the ratios more.

use std::fs::read_to_string;
use std::path::Path;

/// Label of the load average before the run.
pub const LOAD: &str = "load average before the run";

/// Facts of the machine, as label and value.
#[must_use]
pub fn facts(store: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("CPUs", format!("{} × {}", cpus(), cpu_model().unwrap_or_else(unknown))),
        ("memory", memory().unwrap_or_else(unknown)),
        ("kernel", line("/proc/sys/kernel/osrelease").unwrap_or_else(unknown)),
        ("file system of store and of host-local's files", file_system(store).unwrap_or_else(unknown)),
        (LOAD, load().unwrap_or_else(unknown)),
    ]
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn line(path: &str) -> Option<String> {
    read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn cpu_model() -> Option<String> {
    let info = read_to_string("/proc/cpuinfo").ok()?;
    let model = info.lines().find(|line| line.starts_with("model name"))?;
    model.split_once(':').map(|(_, name)| name.trim().to_owned())
}

fn memory() -> Option<String> {
    let info = read_to_string("/proc/meminfo").ok()?;
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.split_whitespace().next()?.parse().ok()?;
    Some(format!("{} GiB", (kib + (1 << 19)) >> 20))
}

/// The mount point with the longest path above the store's.
fn file_system(store: &Path) -> Option<String> {
    let store = store.canonicalize().ok()?;
    let mounts = read_to_string("/proc/self/mounts").ok()?;
    let above = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        store.starts_with(point).then_some((point.len(), kind))
    });
    above.max_by_key(|(length, _)| *length).map(|(_, kind)| kind.to_owned())
}

fn load() -> Option<String> {
    Some(line("/proc/loadavg")?.split(' ').take(1).collect())
}
