//! A store as people and scripts read it, an agent's or a controller's: what a state directory holds tells whose it is.

use super::books::Books;
use super::{Rows, Table};
use crate::controller;
use serde_json::Value;

/// The contents as JSON.
///
/// # Errors
/// With the first row that makes no sense.
pub fn show(rows: &Rows) -> Result<Value, String> {
    let is_controllers = |table| matches!(table, Table::Blocks | Table::RouteTables | Table::Fallbacks);
    if rows.keys().any(|(table, _)| is_controllers(*table)) {
        controller::show(rows)
    } else {
        Books::decode(rows).map(|books| books.show())
    }
}
