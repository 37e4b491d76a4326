//! What whoever runs a test does to the world from outside, while it runs: other faults, routes that others make. All mistakes
//! are reported at once, and then nothing has changed.

use super::Ec2;
use crate::fault::Faults;
use crate::scenario::{Known, Mistake, RouteSpec, parse_faults, parse_placements};
use crate::time::SimTime;

impl Ec2 {
    /// Sets other faults instead of those that are: YAML (or JSON), a list or a mapping with the key `faults`. Their time
    /// begins now. Addresses that faults hold are given back; what else has happened stays.
    ///
    /// # Errors
    /// All mistakes that there are; then nothing has changed.
    pub fn set_faults(&mut self, now: SimTime, text: &str) -> Result<(), Vec<Mistake>> {
        let known = Known {
            nodes: self.world.instances.values().map(|instance| instance.node.clone()).collect(),
            subnets: self.world.subnets.values().map(|subnet| subnet.name.clone()).collect(),
        };
        let faults = parse_faults(text, &known)?;
        self.pass(now);
        self.world.release_held(None);
        self.faults = Faults::begin(faults, self.seal, self.now, &self.world);
        // What is to happen at once has happened when this returns.
        self.pass(now);
        Ok(())
    }

    /// Puts routes into tables, or takes them out, behind the back of whoever calls the API: YAML (or JSON), a list of `table`
    /// (name or id), `destination`, `target` as in the scenario (`none` takes the route away) and `origin`.
    ///
    /// # Errors
    /// All mistakes that there are; then nothing has changed.
    pub fn place_routes(&mut self, now: SimTime, text: &str) -> Result<(), Vec<Mistake>> {
        self.pass(now);
        let tables = &self.world.routing.tables;
        let (mut found, mut mistakes) = (Vec::new(), Vec::new());
        for (index, (name, route)) in parse_placements(text)?.into_iter().enumerate() {
            let table = tables.values().find(|table| {
                table.id.as_str() == name || table.name == name || (name == "main" && table.is_main())
            });
            let is_node = |name: &str| name == RouteSpec::NOWHERE || self.world.node(name).is_some();
            if let Some(problem) = route.target_problem(is_node) {
                mistakes.push(Mistake { path: format!("routes[{index}].target"), problem });
            }
            match table {
                Some(table) => found.push((table.id.clone(), route)),
                None => mistakes.push(Mistake {
                    path: format!("routes[{index}].table"),
                    problem: format!("is {name:?}; expected the name or the id of a route table, or main"),
                }),
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        for (table, route) in &found {
            self.world.place_route(table, route, self.now);
        }
        self.faults.note(self.now, &self.world);
        Ok(())
    }
}
