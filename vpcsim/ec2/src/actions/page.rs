//! Pagination of the Describe actions. A page ends behind an item, and its token names that item, so that the next page
//! begins behind it even if the world has changed in between: nothing appears twice. Tokens are sealed: a made-up one, or
//! one of another action, is refused.

use crate::action::Action;
use crate::error::{ApiError, Code};
use crate::form::Params;
use crate::random::seal as seal_of;
use std::ops::RangeInclusive;

/// What EC2 allows as MaxResults of most actions.
pub(super) const USUAL: RangeInclusive<u32> = 5..=1_000;

/// The part of a list that a request asks for.
#[derive(Debug)]
pub(super) struct Page {
    action: Action,
    seal: u64,
    most: Option<usize>,
    behind: Option<String>,
}

impl Page {
    pub(super) fn take(
        params: &mut Params,
        action: Action,
        seal: u64,
        range: RangeInclusive<u32>,
    ) -> Result<Self, ApiError> {
        let most = params.number("MaxResults", range)?.and_then(|most| usize::try_from(most).ok());
        let token = params.text("NextToken").filter(|token| !token.is_empty());
        let behind = token.map(|token| open(&token, action, seal)).transpose()?;
        Ok(Self { action, seal, most, behind })
    }

    /// A limit for who names none.
    pub(super) fn at_most(mut self, most: usize) -> Self {
        self.most.get_or_insert(most);
        self
    }

    /// Some actions refuse a limit together with ids.
    pub(super) fn not_with_ids(&self, ids: bool, parameter: &str) -> Result<(), ApiError> {
        if ids && self.most.is_some() {
            let message = format!("The parameter {parameter} cannot be used with the parameter maxResults");
            return Err(ApiError::combination(message));
        }
        Ok(())
    }

    /// The page out of `items`, which are ordered by their keys, and the token of the next one.
    pub(super) fn cut<'i, T: 'i>(
        self,
        items: impl Iterator<Item = (&'i str, T)>,
    ) -> (Vec<T>, Option<String>) {
        let mut page = Vec::new();
        let mut last = None;
        for (key, item) in items {
            if self.behind.as_deref().is_some_and(|behind| key <= behind) {
                continue;
            }
            if self.most.is_some_and(|most| page.len() >= most) {
                return (page, last.map(|last: &str| close(last, self.action, self.seal)));
            }
            page.push(item);
            last = Some(key);
        }
        (page, None)
    }
}

fn close(key: &str, action: Action, seal: u64) -> String {
    let key_in_hex: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{key_in_hex}{:016x}", sign(key, action, seal))
}

fn open(token: &str, action: Action, seal: u64) -> Result<String, ApiError> {
    let key = read(token).filter(|key| close(key, action, seal) == token);
    key.ok_or_else(|| Code::InvalidPaginationToken.because("The specified pagination token is not valid."))
}

fn read(token: &str) -> Option<String> {
    let hex = token.get(..token.len().checked_sub(16)?)?;
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Vec<u8> = hex.as_bytes().chunks(2).map(byte).collect::<Option<_>>()?;
    String::from_utf8(bytes).ok()
}

fn sign(key: &str, action: Action, seal: u64) -> u64 {
    seal_of(seal, format!("{}/{key}", action.name()).as_bytes())
}
