//! A vpcsim that serves the world of `contract.yaml` on the loopback until it is dropped.

use anyhow::{Context, ensure};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

#[derive(Debug)]
pub(crate) struct Vpcsim {
    process: Child,
}

impl Vpcsim {
    /// Starts it; the line is its description of the world.
    pub(crate) fn start() -> anyhow::Result<(Self, String)> {
        let program = program()?;
        let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/contract.yaml");
        let process = Command::new(&program)
            .args(["serve", "--listen", "127.0.0.1:0", "--scenario", scenario])
            .env("VPCSIM_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let mut vpcsim = Self { process };
        let output = vpcsim.process.stdout.take().context("its standard output is a pipe")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("read vpcsim's description of its world")?;
        ensure!(!line.is_empty(), "vpcsim ended before it was ready");
        Ok((vpcsim, line))
    }
}

impl Drop for Vpcsim {
    fn drop(&mut self) {
        // Without a network it leaves nothing behind, so it need not be asked.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program that `make build` made, or the one that cargo built beside this test.
fn program() -> anyhow::Result<PathBuf> {
    let made = std::env::var_os("SPUR_BIN").map(|directory| PathBuf::from(directory).join("vpcsim"));
    let test = std::env::current_exe().context("the path of this test")?;
    let beside = test.parent().and_then(|deps| deps.parent()).map(|target| target.join("vpcsim"));
    let found = [made, beside].into_iter().flatten().find(|path| path.is_file());
    found.context("vpcsim is not built: run `make build`, or `cargo build -p vpcsim`")
}
