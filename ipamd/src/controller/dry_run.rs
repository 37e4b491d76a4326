//! The plan without the deeds (R17): everything is read as the controller would read it, blocks are handed out in memory, and what it would
//! do is printed. Nothing is written, neither in the cloud nor on disk; a controller that runs may go on.

use super::books;
use super::calls::perform;
use super::nodes::{self, NodesError};
use super::status::line;
use crate::agent::clock::Clock;
use crate::config::controller::ControllerConfig;
use crate::store::{PeekError, peek, store_file};
use spur_cloud::CloudRoutes;
use spur_ipamd_core::vpcroute::{Action, Controller, Event, Record};
use std::collections::VecDeque;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

/// How long reading may take in all.
const LIMIT: Duration = Duration::from_secs(60);

/// There is no plan.
#[derive(Debug, thiserror::Error)]
pub enum DryRunError {
    /// The list of nodes cannot be read.
    #[error("read the list of nodes {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// It says things that make no sense.
    #[error("use the list of nodes")]
    Nodes(#[source] NodesError),
    /// The store is there and cannot be used.
    #[error("read the store")]
    Store(#[source] PeekError),
    /// EC2 did not tell enough; the problems.
    #[error("the plan cannot be made: {0}")]
    Blind(String),
}

/// What would be done, as text.
///
/// # Errors
/// When nodes, store or cloud cannot be read.
pub async fn dry_run<C: CloudRoutes>(
    config: &ControllerConfig,
    cloud: &C,
    clock: Clock,
) -> Result<String, DryRunError> {
    let path = &config.nodes_file;
    let text =
        tokio::fs::read_to_string(path).await.map_err(|cause| DryRunError::Read(path.clone(), cause))?;
    let nodes = nodes::parse(&text).map_err(DryRunError::Nodes)?;
    let file = store_file(&config.state_dir);
    let record = match file.exists() {
        true => peek(&file, books::decode).map_err(DryRunError::Store)?,
        false => Record::default(),
    };
    let mut controller = Controller::new(config.settings.clone(), record, 0, clock.now());
    let deadline = tokio::time::Instant::now() + LIMIT;
    let mut events = VecDeque::from([Event::Nodes(nodes)]);
    loop {
        let event = match events.pop_front() {
            Some(event) => event,
            None if controller.is_observed() => return Ok(render(&controller)),
            None if tokio::time::Instant::now() >= deadline => return Err(blind(&controller)),
            None => {
                // A read failed and is due again after a while.
                tokio::time::sleep(Duration::from_millis(200)).await;
                Event::Tick
            }
        };
        for action in controller.step(clock.now(), event) {
            match action {
                Action::Store { id, .. } => events.push_back(Event::Stored(id)),
                Action::Call { id, call, .. } if call.is_read() => {
                    let result = perform(cloud, &call).await;
                    events.push_back(Event::CallFinished { call: id, result });
                }
                // Begun, and never finished: it stays in the plan.
                Action::Call { .. } => {}
            }
        }
    }
}

fn blind(controller: &Controller) -> DryRunError {
    let problems: Vec<String> = controller.view().problems.iter().map(ToString::to_string).collect();
    DryRunError::Blind(problems.join("; "))
}

fn render(controller: &Controller) -> String {
    let plan = controller.plan();
    let mut text = String::new();
    // Writing into a text does not fail.
    let _ = writeln!(text, "{} call(s) to make:", plan.len());
    for planned in &plan {
        let _ = writeln!(text, "  {}", line(planned));
    }
    let view = controller.view();
    for condition in &view.conditions {
        let status = if condition.status { "true" } else { "false" };
        let _ = writeln!(text, "{}: {status} ({}) {}", condition.name, condition.reason, condition.message);
    }
    for problem in &view.problems {
        let _ = writeln!(text, "{}: {problem}", problem.kind());
    }
    text
}
