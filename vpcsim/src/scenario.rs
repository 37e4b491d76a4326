//! Reading the scenario file. What a scenario may say is decided by the model (`vpcsim_ec2::scenario`); here only the file,
//! the name that the command line may put in place of the file's, and what namespaces cannot do.

use std::path::{Path, PathBuf};
use vpcsim_ec2::{Mistake, Scenario};

/// Largest file that is read; 2,000 nodes fit.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// Names that the world's own namespaces have.
const TAKEN: [&str; 2] = ["fabric", "inet"];

/// Why a file gives no scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("read the scenario {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// The file says what cannot be. All mistakes, one per line.
    #[error("the scenario {path} has {} mistake(s):{}", .mistakes.len(), lines(.mistakes))]
    Mistakes {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        mistakes: Vec<Mistake>,
    },
}

fn lines(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect()
}

/// The scenario in `path`, under the name `name` if there is one.
///
/// # Errors
/// The file cannot be read, or all that is wrong in it.
pub fn load(path: &Path, name: Option<&str>) -> Result<Scenario, ScenarioError> {
    let read_error = |cause| ScenarioError::Read { path: path.to_owned(), cause };
    let size = std::fs::metadata(path).map_err(read_error)?.len();
    if size > MAX_FILE_BYTES {
        let cause = std::io::Error::other(format!("{size} bytes; expected at most {MAX_FILE_BYTES}"));
        return Err(read_error(cause));
    }
    let text = std::fs::read_to_string(path).map_err(read_error)?;
    parse(&text, name).map_err(|mistakes| ScenarioError::Mistakes { path: path.to_owned(), mistakes })
}

fn parse(text: &str, name: Option<&str>) -> Result<Scenario, Vec<Mistake>> {
    let parsed = Scenario::parse(text);
    let mut mistakes = name.filter(|name| !is_world_name(name)).map_or_else(Vec::new, |name| {
        let problem =
            format!("is {name:?}; expected 1 to 32 lower-case letters, digits and '-', no '-' at either end");
        vec![Mistake { path: "--name".to_owned(), problem }]
    });
    let mut scenario = parsed.map_err(|mut found| {
        found.append(&mut mistakes);
        found
    })?;
    for (index, node) in
        scenario.nodes.iter().enumerate().filter(|(_, node)| TAKEN.contains(&node.name.as_str()))
    {
        let problem =
            format!("is {:?}, which the world's own namespaces use; expected another name", node.name);
        mistakes.push(Mistake { path: format!("nodes[{index}].name"), problem });
    }
    if mistakes.is_empty() {
        if let Some(name) = name {
            name.clone_into(&mut scenario.name);
        }
        Ok(scenario)
    } else {
        Err(mistakes)
    }
}

/// Whether `name` can be part of a namespace's name.
#[must_use]
pub fn is_world_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
name: demo
vpc: { cidrs: [10.0.0.0/16] }
subnets: [{ name: a, zone: eu-central-1a, cidr: 10.0.0.0/24 }]
nodes: [{ name: n1, type: m5.large, subnet: a }]
";

    #[test]
    fn the_command_lines_name_takes_the_place_of_the_files() {
        assert_eq!(parse(GOOD, None).unwrap().name, "demo");
        assert_eq!(parse(GOOD, Some("other-1")).unwrap().name, "other-1");
    }

    #[test]
    fn a_node_named_like_a_namespace_of_the_world_and_a_bad_name_are_reported_together() {
        let text = GOOD.replace("name: n1", "name: fabric");
        let mistakes = parse(&text, Some("../x")).unwrap_err();
        let paths: Vec<_> = mistakes.iter().map(|mistake| mistake.path.as_str()).collect();
        assert_eq!(paths, ["--name", "nodes[0].name"]);
    }

    #[test]
    fn every_shipped_scenario_parses() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty());
        for file in files {
            load(&file, None).unwrap();
        }
    }
}
