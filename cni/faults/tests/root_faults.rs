//! Failures, kills and dead agents at every point that ADD and DEL pass, in turn and in pairs, with a real kernel: afterwards, or
//! after the DEL that a runtime sends, the namespaces are as they were and the agent holds nothing. The points are not listed
//! here: each test goes on until an execution gets through, and one test looks at which they are.
//! Without privileges the tests fail.
#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/node/mod.rs"]
mod node;

use common::{Behaviour, FakeAgent, Invocation, Pool, Ran, wait_until};
use node::{Namespace, Node, Snapshot};
use rustix::process::{Pid, Signal, kill_process};
use spur_datapath::pod::Step;
use spur_wire::{Request, RequestBody, Response};
use std::time::Instant;

/// More than any verb has; a test that comes here would go on for ever.
const ENDLESS: usize = 60;

/// A node, a pod and an agent, and how they were before.
struct Bench {
    node: Node,
    pod: Namespace,
    agent: FakeAgent,
    pool: Pool,
    before: (Snapshot, Snapshot),
}

impl Bench {
    fn new() -> Self {
        let (node, pod) = (Node::new(), Namespace::new());
        let (agent, pool) = FakeAgent::honest();
        let before = (node.ns.snapshot(), pod.snapshot());
        Self { node, pod, agent, pool, before }
    }

    fn call(&self, verb: &str, faults: &str) -> Invocation {
        self.agent
            .invocation(verb, "c1", self.pod.path())
            .with("SPUR_FAULTS", faults)
            .with("SPUR_FAULTS_TRACE", self.trace_path())
    }

    /// Runs it and gives the points that it passed, too.
    fn run(&self, verb: &str, faults: &str) -> (Ran, Vec<String>) {
        let ran = self.node.run(&self.call(verb, faults));
        (ran, self.trace())
    }

    fn trace_path(&self) -> String {
        self.agent.socket().with_file_name("trace").to_str().unwrap().to_owned()
    }

    fn trace(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.trace_path()).unwrap_or_default();
        let _ = std::fs::remove_file(self.trace_path());
        text.lines().map(str::to_owned).collect()
    }

    /// The DEL that a runtime sends after whatever happened.
    #[track_caller]
    fn del(&self) {
        let (ran, _) = self.run("DEL", "");
        ran.assert_silent_success();
    }

    #[track_caller]
    fn assert_nothing_left(&self, what: &str) {
        assert!(self.pool.held().is_empty(), "{what}: {:?}", self.pool.held());
        assert!(self.agent.spooled().is_empty(), "{what}: {:?}", self.agent.spooled());
        eprintln!("{what}");
        self.before.0.assert_same(&self.node.ns);
        self.before.1.assert_same(&self.pod);
    }
}

/// Starts it, and lets `meanwhile` happen when it has stopped itself; tells whether it did.
fn run_with_stop(node: &Node, invocation: &Invocation, meanwhile: impl FnOnce(Pid) + Send) -> (bool, Ran) {
    node.ns.inside(|| {
        let started = Instant::now();
        let child = invocation.spawn();
        let pid = Pid::from_child(&child);
        let stopped = waits_stopped(pid);
        if stopped {
            meanwhile(pid);
        }
        (stopped, common::finish(child, started))
    })
}

/// Waits until the process stops itself (true) or ends (false, and is not reaped).
fn waits_stopped(pid: Pid) -> bool {
    let mut stopped = None;
    wait_until("the plugin stops or ends", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
        let state = stat.rsplit(") ").next().unwrap().chars().next();
        stopped = match state {
            Some('T') => Some(true),
            Some('Z') => Some(false),
            _ => None,
        };
        stopped.is_some()
    });
    stopped.unwrap()
}

fn proceed(pid: Pid) {
    kill_process(pid, Signal::CONT).unwrap();
}

/// Runs the test for each point of the verb in turn, until one says that it got through.
fn at_every_point(mut test: impl FnMut(usize) -> bool) -> usize {
    let through = (0..ENDLESS).find(|number| test(*number));
    let through = through.expect("the verb ends");
    assert!(through > 3, "only {through} points");
    through
}

#[test]
#[ignore = "needs root"]
fn c23_the_points_are_all_that_add_and_del_do() {
    let bench = Bench::new();
    let (ran, points) = bench.run("ADD", "");
    ran.result();
    let steps = Step::ALL.map(|step| format!("Wire({step:?})"));
    let mut expected = vec!["Ask".to_owned(), "Plan".to_owned()];
    expected.extend(steps);
    expected.extend(["Encode".to_owned(), "Print".to_owned()]);
    assert_eq!(points, expected);
    let (ran, points) = bench.run("DEL", "");
    ran.assert_silent_success();
    assert_eq!((points.first().unwrap().as_str(), points.last().unwrap().as_str()), ("Detach", "Forget"));
    bench.assert_nothing_left("ADD and DEL");
}

#[test]
#[ignore = "needs root"]
fn c23_a_failure_at_every_point_of_add_leaves_nothing() {
    let bench = Bench::new();
    at_every_point(|number| {
        let (ran, points) = bench.run("ADD", &format!("fail={number}"));
        if ran.success {
            return true;
        }
        bench.assert_nothing_left(&format!("failed at {}, passed {points:?}", points[number]));
        false
    });
    bench.del();
    bench.assert_nothing_left("ADD and DEL");
}

#[test]
#[ignore = "needs root"]
fn c23_when_undoing_fails_too_the_del_that_follows_leaves_nothing() {
    let bench = Bench::new();
    at_every_point(|first| {
        let (ran, alone) = bench.run("ADD", &format!("fail={first}"));
        if ran.success {
            return true;
        }
        for second in first + 1..alone.len() {
            let (ran, points) = bench.run("ADD", &format!("fail={first},fail={second}"));
            assert!(!ran.success, "{points:?}");
            // What the kernel still answers for is not given back: another pod could get it.
            let is_wired = ["Wire(Undo)", "Unwire"].contains(&points[second].as_str());
            assert!(!is_wired || bench.pool.held().len() == 1, "{points:?}");
            bench.del();
            bench.assert_nothing_left(&format!("failed at {} and at {}", points[first], points[second]));
        }
        false
    });
}

#[test]
#[ignore = "needs root"]
fn c30_a_kill_at_every_point_of_add_is_repaired_by_del() {
    let bench = Bench::new();
    at_every_point(|number| {
        let (ran, points) = bench.run("ADD", &format!("kill={number}"));
        if ran.success {
            return true;
        }
        assert!(ran.stdout.is_empty(), "{ran:?}");
        bench.agent.settle();
        bench.del();
        bench.assert_nothing_left(&format!("killed at {}", points[number]));
        false
    });
}

#[test]
#[ignore = "needs root"]
fn c30_a_kill_at_every_point_of_undoing_is_repaired_by_del() {
    let bench = Bench::new();
    at_every_point(|first| {
        let (ran, alone) = bench.run("ADD", &format!("fail={first}"));
        if ran.success {
            return true;
        }
        // The first of them is the state that a kill in the middle of a batch leaves: its earlier part was done.
        for second in first + 1..alone.len() {
            let (ran, points) = bench.run("ADD", &format!("fail={first},kill={second}"));
            assert!(!ran.success && ran.stdout.is_empty(), "{ran:?}");
            bench.agent.settle();
            bench.del();
            bench.assert_nothing_left(&format!("failed at {}, killed at {}", points[first], points[second]));
        }
        false
    });
}

#[test]
#[ignore = "needs root"]
fn c30_c33_a_failure_or_a_kill_at_every_point_of_del_is_repaired_by_the_next() {
    let bench = Bench::new();
    for fault in ["fail", "kill"] {
        at_every_point(|number| {
            bench.run("ADD", "").0.result();
            let (ran, points) = bench.run("DEL", &format!("{fault}={number}"));
            if ran.success {
                bench.assert_nothing_left("DEL");
                return true;
            }
            bench.agent.settle();
            bench.del();
            bench.assert_nothing_left(&format!("{fault} at {}", points[number]));
            false
        });
    }
}

/// How an answer is given.
type How = fn(Response) -> Behaviour;

/// An agent that keeps its books right and answers in another way.
fn answering(
    pool: &Pool,
    verb: fn(&RequestBody) -> bool,
    how: How,
) -> impl Fn(&Request) -> Behaviour + use<> {
    let books = pool.clone();
    move |request| {
        let response = books.answer(request);
        if verb(&request.body) { how(response) } else { Behaviour::Answer(response) }
    }
}

fn honest(pool: &Pool) -> impl Fn(&Request) -> Behaviour + use<> {
    answering(pool, |_| true, Behaviour::Answer)
}

#[test]
#[ignore = "needs root"]
fn c30_c37_a_fault_in_an_add_that_hands_in_a_spooled_release_loses_neither() {
    let mut bench = Bench::new();
    for fault in ["fail", "kill"] {
        at_every_point(|number| {
            bench.run("ADD", "").0.result();
            bench.agent.stop();
            bench.del();
            assert_eq!(bench.agent.spooled().len(), 1);
            bench.agent.listen(honest(&bench.pool));
            let (ran, points) = bench.run("ADD", &format!("{fault}={number}"));
            assert_eq!(points[0], "Redeem");
            bench.agent.settle();
            bench.del();
            bench.assert_nothing_left(&format!("{fault} at {:?}", points.get(number)));
            ran.success
        });
    }
}

#[test]
#[ignore = "needs root"]
fn c30_c37_an_agent_that_dies_at_any_point_of_add_leaves_nothing_after_del() {
    let mut bench = Bench::new();
    // With the last, the plugin has to undo without an agent.
    for then in ["", ",fail=10"] {
        at_every_point(|number| {
            let add = bench.call("ADD", &format!("stop={number}{then}"));
            let agent = &mut bench.agent;
            let (stopped, ran) = run_with_stop(&bench.node, &add, |pid| {
                agent.stop();
                proceed(pid);
            });
            let points = bench.trace();
            if !stopped {
                bench.del();
                bench.assert_nothing_left("ADD and DEL");
                return true;
            }
            let needs_agent = then.is_empty() && points[number..].contains(&"Ask".to_owned());
            assert!(!needs_agent || ran.stdout.contains("connect to the agent"), "{ran:?}");
            bench.agent.listen(honest(&bench.pool));
            bench.del();
            bench.assert_nothing_left(&format!("the agent died at {}{then}: {points:?}", points[number]));
            false
        });
    }
}

#[test]
#[ignore = "needs root"]
fn c30_c37_an_agent_that_dies_at_any_point_of_del_makes_no_difference_to_the_pod() {
    let mut bench = Bench::new();
    at_every_point(|number| {
        bench.run("ADD", "").0.result();
        let del = bench.call("DEL", &format!("stop={number}"));
        let agent = &mut bench.agent;
        let (stopped, ran) = run_with_stop(&bench.node, &del, |pid| {
            agent.stop();
            proceed(pid);
        });
        ran.assert_silent_success();
        let points = bench.trace();
        bench.before.0.assert_same(&bench.node.ns);
        bench.before.1.assert_same(&bench.pod);
        assert_eq!(
            bench.pool.held().len(),
            bench.agent.spooled().len(),
            "held by nobody, or on its way: {points:?}"
        );
        if !stopped {
            return true;
        }
        bench.agent.listen(honest(&bench.pool));
        bench.del();
        bench.assert_nothing_left(&format!("the agent died at {}", points[number]));
        false
    });
}

#[test]
#[ignore = "needs root"]
fn c30_c37_an_agent_that_dies_between_request_and_answer_leaves_nothing() {
    let mut bench = Bench::new();
    let ways: [(&str, How); 3] = [
        ("before its answer", |_| Behaviour::Close),
        ("in the middle of its answer", |_| Behaviour::Bytes(b"\x40\0\0\0{".to_vec())),
        ("never to be heard of", |_| Behaviour::Hang),
    ];
    for (what, how) in ways {
        // The books have the request: it was done, and nobody was told.
        bench.agent.stop();
        bench.agent.listen(answering(&bench.pool, |body| matches!(body, RequestBody::Add(_)), how));
        let add = bench.call("ADD", "").edit(|conf| conf["timeoutSeconds"] = 1.into());
        bench.node.run(&add).failure(11);
        bench.before.0.assert_same(&bench.node.ns);
        bench.del();
        bench.assert_nothing_left(&format!("ADD: the agent died {what}"));
        bench.agent.stop();
        bench.agent.listen(answering(&bench.pool, |body| matches!(body, RequestBody::Del(_)), how));
        bench.run("ADD", "").0.result();
        let del = bench.call("DEL", "").edit(|conf| conf["timeoutSeconds"] = 1.into());
        bench.node.run(&del).assert_silent_success();
        assert_eq!(bench.agent.spooled().len(), 1, "{what}");
        bench.before.0.assert_same(&bench.node.ns);
        bench.before.1.assert_same(&bench.pod);
        bench.agent.stop();
        bench.agent.listen(honest(&bench.pool));
        bench.del();
        bench.assert_nothing_left(&format!("DEL: the agent died {what}"));
    }
}
