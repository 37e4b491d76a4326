//! The conflist: how the container runtime learns of Spur. It appears when the node can serve ADD, whole or not at all, and is
//! not written again when it already says what it should, because runtimes reload on every change. It stays when the agent
//! stops: pods that come meanwhile are told to try again.

use crate::config::{CniConfig, CniVersion};
use serde_json::json;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The conflist could not be put in place.
#[derive(Debug, thiserror::Error)]
#[error("write the CNI configuration {}", path.display())]
pub struct ConflistError {
    path: PathBuf,
    #[source]
    cause: io::Error,
}

/// The text of the file. `cniVersions` is read by new runtimes, which pick the highest; old ones ignore it and take `cniVersion`.
#[must_use]
pub fn render(config: &CniConfig, spool_dir: &Path) -> String {
    let mut versions = vec!["0.4.0", "1.0.0"];
    if config.version == CniVersion::V1_1 {
        versions.push("1.1.0");
    }
    let mut plugins = vec![json!({ "type": "spur", "socket": config.socket_path, "spoolDir": spool_dir })];
    plugins.extend_from_slice(&config.chain);
    let conflist = json!({
        "cniVersion": "1.0.0",
        "cniVersions": versions,
        "name": config.network_name,
        "plugins": plugins,
    });
    format!("{conflist:#}\n")
}

/// Puts the conflist in place; `false` if it was there already.
///
/// # Errors
/// When the file system refuses. The file that was there is untouched then.
pub fn write(config: &CniConfig, spool_dir: &Path) -> Result<bool, ConflistError> {
    let path = config.conf_dir.join(&config.conf_name);
    let text = render(config, spool_dir);
    if fs::read_to_string(&path).is_ok_and(|present| present == text) {
        return Ok(false);
    }
    // Runtimes read by ending (.conf, .conflist, .json); this name has none of them.
    let temporary = config.conf_dir.join(format!(".{}.{}", config.conf_name, std::process::id()));
    let written = write_through(&config.conf_dir, &temporary, &path, &text);
    if written.is_err() {
        // The error above is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(|cause| ConflistError { path, cause })?;
    Ok(true)
}

fn write_through(dir: &Path, temporary: &Path, path: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path) -> CniConfig {
        CniConfig {
            conf_dir: dir.join("net.d"),
            conf_name: "10-spur.conflist".to_owned(),
            network_name: "spur".to_owned(),
            socket_path: "/run/spur/agent.sock".into(),
            chain: Vec::new(),
            version: CniVersion::V1_1,
        }
    }

    #[test]
    fn the_file_says_what_a_runtime_reads() {
        let text = render(&config(Path::new("/etc/cni")), Path::new("/var/lib/spur/spool"));
        let expected = json!({
            "cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.0.0", "1.1.0"], "name": "spur",
            "plugins": [{"type": "spur", "socket": "/run/spur/agent.sock", "spoolDir": "/var/lib/spur/spool"}],
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), expected);
    }

    #[test]
    fn plugins_of_the_chain_come_behind_spur_as_they_are() {
        let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}, "snat": false});
        let mut config = config(Path::new("/etc/cni"));
        (config.chain, config.version) = (vec![portmap.clone()], CniVersion::V1_0);
        let text = render(&config, Path::new("/spool"));
        let written: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(written["plugins"][0]["type"], "spur");
        assert_eq!(written["plugins"][1], portmap);
        assert_eq!(written["cniVersions"], json!(["0.4.0", "1.0.0"]));
    }

    #[test]
    fn it_is_written_once_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let spool = Path::new("/spool");
        assert!(write(&config, spool).unwrap());
        assert!(!write(&config, spool).unwrap());
        let path = config.conf_dir.join(&config.conf_name);
        let before = File::open(&path).unwrap();
        fs::write(&path, "{ torn").unwrap();
        assert!(write(&config, spool).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), render(&config, spool));
        // Who had the old file open still sees the old file: it was replaced, not overwritten.
        assert_eq!(io::read_to_string(before).unwrap(), "{ torn");
        assert_eq!(fs::read_dir(&config.conf_dir).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("net.d"), "a file").unwrap();
        let error = write(&config(dir.path()), Path::new("/spool")).unwrap_err();
        assert!(error.to_string().contains("net.d/10-spur.conflist"), "{error}");
    }
}
