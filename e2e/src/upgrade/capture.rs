//! Keeps what the agent and plugin of a build leave on a node, and what they say to each other, as files: tests of later versions begin with
//! them and need not build that revision.
//!
//! `ruleset.nft` (our tables, as nft shows them), `rules` (ours, as `ip` shows them), `10-spur.conflist` (with `/NODE` for the node's directory), `agent.redb` and `store.json`
//! (the store, and what is in it), and `frames` (a line of JSON per frame, request and answer in turn). Routes and sysctls are not kept: no version has changed
//! what they are. Of a controller `grant.json` (the node's) and `cluster.json` are kept.

use super::Build;
use super::stage::Stage;
use crate::torture::views::show as show_store;
use anyhow::{Context, Result, bail, ensure};
use spur_datapath::layout::PROTOCOL;
use spur_datapath::netns::NetNs;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;

/// The node's directory, in a conflist that was kept.
pub const NODE_DIR: &str = "/NODE";
/// The conflist's name.
pub const CONFLIST: &str = "10-spur.conflist";

/// Keeps the state of the first node, whose agent and plugin are `build`.
pub(super) fn capture(stage: &mut Stage<'_>, build: &Build, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).context("make the directory")?;
    let node = &stage.world.nodes[0];
    let keep =
        |name: &str, text: String| fs::write(dir.join(name), text).with_context(|| format!("write {name}"));
    let show = |words: &str| said(&node.netns, words);
    let tables = ["ip", "ip6"].map(|family| show(&format!("nft list table {family} spur")));
    keep("ruleset.nft", tables.into_iter().collect::<Result<Vec<_>>>()?.concat())?;
    let ours = format!("proto {PROTOCOL}");
    let rules = show("ip -4 rule show")?;
    keep(
        "rules",
        rules.lines().filter(|line| line.contains(&ours)).map(|line| format!("{line}\n")).collect(),
    )?;
    let conflist =
        fs::read_to_string(node.dir().join("net.d").join(CONFLIST)).context("read the conflist")?;
    keep(CONFLIST, conflist.replace(&node.dir().display().to_string(), NODE_DIR))?;
    let store = node.dir().join("state/agent.redb");
    fs::copy(&store, dir.join("agent.redb")).context("copy the store")?;
    keep("store.json", format!("{:#}\n", show_store(&dir.join("agent.redb"))?))?;
    if stage.world.has_controller() {
        let granted = stage.world.grant_dir();
        let grant = format!("nodes/{}.json", node.name);
        for (from, to) in [(grant.as_str(), "grant.json"), ("cluster.json", "cluster.json")] {
            fs::copy(granted.join(from), dir.join(to)).context("copy what the controller granted")?;
        }
    }
    let tap = Tap::start(node.dir().join("tap.sock"), node.dir().join("agent.sock"))?;
    let runtime = stage.runtime(0, build)?.with_conf("socket", tap.path.display().to_string().into());
    stage.each_verb_with(0, runtime)?;
    keep("frames", tap.stop()?)
}

/// What a program prints that is executed on a node.
fn said(netns: &NetNs, words: &str) -> Result<String> {
    let mut words = words.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    let output = netns.run(move || command.output())?.context("execute a witness")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Stands between plugin and agent and notes every frame.
struct Tap {
    path: PathBuf,
    thread: JoinHandle<Result<String>>,
}

impl Tap {
    fn start(path: PathBuf, agent: PathBuf) -> Result<Self> {
        let listener = UnixListener::bind(&path).context("listen in the agent's place")?;
        let thread = std::thread::spawn(move || {
            let mut noted = String::new();
            loop {
                let (mut plugin, _) = listener.accept().context("accept a plugin")?;
                let Some(request) = frame(&mut plugin)? else { return Ok(noted) };
                let mut agent = UnixStream::connect(&agent).context("connect to the agent")?;
                agent.write_all(&request)?;
                let Some(answer) = frame(&mut agent)? else { bail!("the agent says nothing") };
                plugin.write_all(&answer)?;
                for bytes in [request, answer] {
                    noted.push_str(std::str::from_utf8(&bytes[4..])?);
                    noted.push('\n');
                }
            }
        });
        Ok(Self { path, thread })
    }

    /// Everything that was said.
    fn stop(self) -> Result<String> {
        // A plugin that says nothing.
        drop(UnixStream::connect(&self.path)?);
        self.thread.join().unwrap_or_else(|_| bail!("the tap failed"))
    }
}

/// A whole frame, with its length; none at the end of the stream.
fn frame(stream: &mut UnixStream) -> Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; 4];
    if stream.read(&mut bytes[..1])? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut bytes[1..])?;
    let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    stream.take(length.into()).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
