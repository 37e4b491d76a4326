//! The report as Markdown: goals first, then what they were judged from, then how it was measured.
//!
//! Nothing in it tells when it was made: two runs differ in numbers only.

use crate::goals::{Goal, judge, mib};
use crate::layouts::Layout;
use crate::machine::LOAD;
use crate::parts::Profile;
use crate::plan::Plan;
use crate::rounds::{BySide, Point, Side};
use crate::run::{Results, Routing};
use crate::samples::Samples;
use std::fmt::Write as _;

const BUSY: &str = "\n**The machine did other work during this run**: absolute times are too long, spreads too wide, and whatever waits for another process or for \
    the\nkernel's one lock of all network configuration (RTNL) waits for that work, too. Measure again on an idle machine before a number is quoted.\n";

/// The whole document; `plot` is the file name of the picture.
#[must_use]
pub fn markdown(results: &Results, plot: &str) -> String {
    let mut text = String::from(
        "# Performance\n\n\
         Written by `make bench`, which measures everything below in one run: Spur (the plugin as shipped, the real agent with its durable store, on a node of\n\
         vpcsim) beside `ptp` with `host-local` of Debian's containernetworking-plugins, and Spur's routing layout beside one with rules per pod.\n\
         Absolute times belong to the machine; the ratios carry over.\n\n",
    );
    let _ = writeln!(text, "![ADD, DEL and routing by number of pods]({plot})\n");
    let _ = writeln!(text, "{}", machine(results));
    let _ = writeln!(text, "## Goals\n\n{}", goals(&judge(results)));
    let _ = writeln!(text, "## ADD and DEL\n\n{}", verbs(&results.plan, &results.points));
    let _ = writeln!(text, "## Routing\n\n{}", routing(results));
    let _ = writeln!(text, "## Memory\n\n{}", memory(results));
    let _ = writeln!(text, "## Where the time goes\n\n{}", parts(results));
    text + &method(results)
}

/// The goals as a table.
#[must_use]
pub fn goals(goals: &[Goal]) -> String {
    let rows = goals.iter().map(|goal| {
        let measured = format!("{:.2}{} ({})", goal.worst, goal.unit, goal.at);
        vec![goal.what.clone(), goal.wanted(), measured, goal.verdict()]
    });
    table(&["goal", "wanted", "worst measured", "verdict"], rows)
}

fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", header.join(" | "), "---|".repeat(header.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

fn machine(results: &Results) -> String {
    let facts: Vec<_> = results.machine.iter().map(|(label, value)| format!("{label}: {value}")).collect();
    let load =
        results.machine.iter().find(|(label, _)| *label == LOAD).and_then(|(_, load)| load.parse().ok());
    let busy = load.is_some_and(|load: f64| load > 1.0);
    format!(
        "Machine: {}. Instance type of the nodes: {}.\n{}",
        facts.join("; "),
        results.plan.instance_type,
        if busy { BUSY } else { "" }
    )
}

fn milliseconds(samples: &Samples) -> String {
    spread(samples, 2)
}

fn times(samples: &Samples) -> String {
    let (low, high) = samples.spread();
    format!("**{:.2}×** ({low:.2}–{high:.2})", samples.median())
}

fn spread(samples: &Samples, digits: usize) -> String {
    let (low, high) = samples.spread();
    format!("{:.digits$} ({low:.digits$}–{high:.digits$})", samples.median())
}

/// The three measured times of a point.
type Verb = (&'static str, fn(&Point) -> &BySide);

const VERBS: [Verb; 3] = [
    ("ADD", |point| &point.add),
    ("DEL", |point| &point.del),
    ("DEL, until the interface is gone", |point| &point.gone),
];

/// ADD and DEL as a table, with what the columns mean.
#[must_use]
pub fn verbs(plan: &Plan, points: &[Point]) -> String {
    let mut rows = Vec::new();
    for (verb, pick) in VERBS {
        for at_once in [1, plan.at_once] {
            for point in points.iter().filter(|point| point.at_once == at_once) {
                let sides = pick(point);
                rows.push(vec![
                    verb.to_owned(),
                    at_once.to_string(),
                    point.pods.to_string(),
                    milliseconds(sides.of(Side::Spur)),
                    milliseconds(sides.of(Side::Reference)),
                    times(&sides.advantage()),
                    times(&sides.growth()),
                ]);
            }
        }
    }
    let growth = format!("Spur / Spur with {} pods", plan.small);
    let header = [
        "verb",
        "at once",
        "pods present",
        "Spur, ms",
        "ptp + host-local, ms",
        "ptp / Spur",
        growth.as_str(),
    ];
    format!(
        "Medians, and from the 10th to the 90th percentile in brackets. Many at once: until the last one has returned. Ratios are taken within a round; the last column compares\n\
         with a second node of Spur in the same rounds.\n\n{}",
        table(&header, rows)
    )
}

fn routing(results: &Results) -> String {
    let mut rows = Vec::new();
    for pair in results.layouts.chunks(2) {
        for point in pair {
            let name = match point.layout {
                Layout::PodsTable => "Spur: a table of pods",
                Layout::RulesPerPod => "rules per pod",
            };
            rows.push([vec![point.pods.to_string(), name.to_owned()], cells(&point.routing)].concat());
        }
        if let [spur, other] = pair {
            let (spur, other) = (&spur.routing, &other.routing);
            let ratios = [
                times(&other.to_pod.over(&spur.to_pod)),
                times(&other.elsewhere.over(&spur.elsewhere)),
                times(&spur.packets.over(&other.packets)),
            ];
            rows.push(
                [vec![pair[0].pods.to_string(), "Spur's advantage".to_owned()], ratios.to_vec()].concat(),
            );
        }
    }
    let header = [
        "pods",
        "layout",
        "lookup of a pod's route, ns",
        "lookup of another route, ns",
        "packets/s, thousands",
    ];
    let alone = table(&header, rows);
    let mut rows = Vec::new();
    for point in &results.nodes {
        rows.push([vec![point.pods.to_string()], cells(&point.routing)].concat());
        rows.push([vec![format!("{} (same rounds)", results.plan.small)], cells(&point.small)].concat());
    }
    let header =
        ["pods", "lookup of a pod's route, ns", "lookup of another route, ns", "packets/s, thousands"];
    format!(
        "Routing alone, without packet filter: both layouts on otherwise equal routers. A lookup is timed as one `connect()` of a UDP socket on the node, to ten pods\n\
         in turn that are spread over all; packets are\n\
         UDP with 18 bytes of payload from one pod to another, sent by one thread.\n\n{alone}\n\
         The same on Spur's nodes, with the agent's rules, ENIs and packet filter:\n\n{}",
        table(&header, rows)
    )
}

fn cells(routing: &Routing) -> Vec<String> {
    let (low, high) = routing.packets.spread();
    let packets = format!("{:.0} ({:.0}–{:.0})", routing.packets.median() / 1e3, low / 1e3, high / 1e3);
    vec![spread(&routing.to_pod, 0), spread(&routing.elsewhere, 0), packets]
}

fn memory(results: &Results) -> String {
    let memory = &results.memory;
    let row = |what: String, kib: u64| vec![what, format!("{:.1}", mib(kib))];
    let rows = [
        row("Spur's plugin, most in ADD".to_owned(), memory.plugin),
        row("ptp, most in ADD (without host-local, which it executes)".to_owned(), memory.reference),
        row(format!("agent at {} pods", memory.pods), memory.agent),
        row("… of that not backed by files (heap, stacks)".to_owned(), memory.agent_anonymous),
    ];
    table(&["resident", "MiB"], rows)
}

fn parts(results: &Results) -> String {
    let rows = results
        .parts
        .iter()
        .map(|part| vec![part.what.to_owned(), milliseconds(&part.few), milliseconds(&part.many)]);
    let header = ["ms on a node with".to_owned(), pods(results.plan.small), pods(results.plan.large())];
    let header: Vec<_> = header.iter().map(String::as_str).collect();
    let profile = Profile::of(&results.parts).map(in_words).unwrap_or_default();
    format!("In the same rounds:\n\n{}{profile}", table(&header, rows))
}

/// What the parts add up to, and what is left.
fn in_words(profile: Profile) -> String {
    let Profile { start, exchange, durable, wire, create, add, del } = profile;
    let common = start + exchange + durable;
    format!(
        "\nOf an ADD's {add:.2} ms with few pods, {start:.2} are the start and the end of the process, {exchange:.2} the exchange with the agent (a connection, a frame each way, two\n\
         changes of process), {durable:.2} the disk's (the assignment is durable before the agent answers), and {wire:.2} the wiring: 9 netlink messages in 4 system calls, of which the\n\
         one that creates the pair takes {create:.2}. {add_rest} the agent's decision, the store's work around the disk's, and reading and printing JSON.\n\n\
         Of a DEL's {del:.2} ms the same start, exchange and disk are {common:.2}. {del_rest} 6 netlink messages in 4 system calls (look for the pair, list its routes, remove\n\
         route and neighbour, mark the pair) and the agent's work. It waits neither for the deletion of the pair nor for the search of the connection table: the agent does both\n\
         for a whole burst. A goal that is missed above is missed by these parts; with many at once they compete for the processors and for the kernel's one lock.\n",
        add_rest = rest(add - common - wire),
        del_rest = rest(del - common),
    )
}

/// The parts are medians of their own: where waiting for a busy processor dominates, they are more than the whole.
fn rest(milliseconds: f64) -> String {
    if milliseconds > 0.0 {
        format!("The remaining {milliseconds:.2} ms are")
    } else {
        "Measured apart, on a machine this busy, that is more than the whole; what it leaves out are"
            .to_owned()
    }
}

fn pods(count: u32) -> String {
    format!("{count} pods")
}

fn method(results: &Results) -> String {
    let plan = &results.plan;
    format!(
        "## How it is measured\n\n\
         - Time runs from before `fork` until the plugin was waited for, with configuration on standard input and the result read, as a runtime does it. {rounds} rounds one at a\n  \
           time, {many} rounds of {at_once} at once; the order of the sides rotates. One round before each level is not counted.\n\
         - DEL is timed twice: until the plugin returns, and until the host has no interface of the pod any more. The sides wait for the latter before the next round, so that what\n  \
           one leaves to the kernel is not paid by another.\n\
         - Everything runs with the same raised priority (nice −19), so that other work on the machine disturbs less.\n\
         - Pods' namespaces are made before; the agents hold enough addresses that no EC2 call is waited for.\n\
         - Plugin and agent are built as they are released (`make bench` sees to it), the plugin with musl where the toolchain has it; vpcsim and what measures are not.\n\
         - `ptp` runs without masquerading, for which it would execute iptables; `host-local` does not sync its files.\n\
         - Memory of a plugin is its high-water mark (`VmHWM`) when it prints its result.\n\n\
         `make bench` rewrites this file and the picture; `spur-bench --quick` does the same in seconds without anything to compare, and\n\
         `spur-bench --verbs 10,1000` measures ADD and DEL alone, with these numbers of pods present. Interrupted, it takes down what it made.\n",
        rounds = plan.rounds,
        many = plan.rounds_at_once,
        at_once = plan.at_once,
    )
}
