//! The CNI plugin, made to fail: every line of it is the product's, only the gate is not. Never shipped; tests execute it in
//! the plugin's place.
//!
//! `SPUR_FAULTS` says what happens at which point, counted from 0 in the order in which this execution passes them:
//! `fail=N` refuses the point, `kill=N` is SIGKILL before it, `stop=N` is SIGSTOP before it (and on with SIGCONT); several are
//! joined by commas. `SPUR_FAULTS_TRACE` is a file that gets the name of each point, a line each.

use rustix::process::{Signal, getpid, kill_process};
use spur_cni::Point;
use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Fail,
    Kill,
    Stop,
}

fn main() -> ExitCode {
    let faults = parse(&std::env::var("SPUR_FAULTS").unwrap_or_default());
    let trace = std::env::var_os("SPUR_FAULTS_TRACE");
    let passed = Cell::new(0);
    spur_cni::run_through(&|point| {
        let number = passed.replace(passed.get() + 1);
        if let Some(path) = &trace {
            note(path.as_ref(), point);
        }
        let mut here = faults.iter().filter(|(at, _)| *at == number).map(|(_, fault)| *fault);
        here.all(act)
    })
}

fn parse(text: &str) -> Vec<(usize, Fault)> {
    let one = |part: &str| {
        let (fault, number) = part.split_once('=').expect("SPUR_FAULTS has parts FAULT=N");
        let fault = match fault {
            "fail" => Fault::Fail,
            "kill" => Fault::Kill,
            "stop" => Fault::Stop,
            other => panic!("SPUR_FAULTS has {other:?}: expected fail, kill or stop"),
        };
        (number.parse().expect("SPUR_FAULTS has numbers of points"), fault)
    };
    text.split(',').filter(|part| !part.is_empty()).map(one).collect()
}

/// Whether the point may be passed.
fn act(fault: Fault) -> bool {
    let signal = match fault {
        Fault::Fail => return false,
        Fault::Kill => Signal::KILL,
        Fault::Stop => Signal::STOP,
    };
    kill_process(getpid(), signal).expect("a process may send signals to itself");
    true
}

fn note(path: &std::path::Path, point: Point) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("the trace can be opened");
    writeln!(file, "{point:?}").expect("the trace can be written");
}
