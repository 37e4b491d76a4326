//! Filters of the Describe actions: a resource passes if, for each filter, one of its values matches one of the patterns.
//! `*` stands for any text, `?` for one character, a backslash takes their meaning away; letters count as they are. A filter
//! that EC2 or this world does not know is refused: ignoring it would answer with too much.

use crate::error::{ApiError, Code};
use crate::form::Params;
use crate::world::Tags;

/// EC2's limit of values over all filters of a request.
const MAX_VALUES: usize = 200;

/// The filters of a request.
#[derive(Debug, Default)]
pub(super) struct Filters(Vec<Filter>);

#[derive(Debug)]
struct Filter {
    name: String,
    patterns: Vec<Vec<Piece>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Any,
    One,
    Letter(char),
}

impl Filters {
    /// The filters `Filter.N.Name`, `Filter.N.Value.M`; `known` names those beside tags.
    pub(super) fn take(params: &mut Params, known: &[&str]) -> Result<Self, ApiError> {
        let mut filters = Vec::new();
        let mut values = 0;
        for mut item in params.structures("Filter")? {
            let name = item.required("Name")?;
            let is_tag =
                known.contains(&"tag-key") && name.strip_prefix("tag:").is_some_and(|key| !key.is_empty());
            if !is_tag && !known.contains(&name.as_str()) {
                let shown: String = name.chars().take(100).collect();
                return Err(Code::InvalidParameterValue.because(format!("The filter '{shown}' is invalid")));
            }
            let patterns: Vec<_> = item.list("Value")?.iter().map(|text| pattern(text)).collect();
            if patterns.is_empty() {
                return Err(item.missing("Value"));
            }
            item.finish()?;
            values += patterns.len();
            filters.push(Filter { name, patterns });
        }
        if values > MAX_VALUES {
            let message =
                format!("The maximum number of filter values specified on a single call is {MAX_VALUES}");
            return Err(Code::FilterLimitExceeded.because(message));
        }
        Ok(Self(filters))
    }

    /// Whether a resource passes: `values_of` gives its values under a filter's name.
    pub(super) fn pass(&self, tags: &Tags, values_of: impl Fn(&str) -> Vec<String>) -> bool {
        self.0.iter().all(|filter| {
            if let Some(key) = filter.name.strip_prefix("tag:") {
                return tags.get(key).is_some_and(|value| filter.accepts(value));
            }
            if filter.name == "tag-key" {
                return tags.keys().any(|key| filter.accepts(key));
            }
            values_of(&filter.name).iter().any(|value| filter.accepts(value))
        })
    }
}

impl Filter {
    fn accepts(&self, value: &str) -> bool {
        self.patterns.iter().any(|pattern| matches(pattern, value))
    }
}

fn pattern(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        pieces.push(match letter {
            '*' => Piece::Any,
            '?' => Piece::One,
            '\\' => Piece::Letter(letters.next().unwrap_or('\\')),
            letter => Piece::Letter(letter),
        });
    }
    pieces.dedup_by(|a, b| (*a, *b) == (Piece::Any, Piece::Any));
    pieces
}

/// Matches with one point to go back to (the last `*`): the time is at most the product of the lengths.
fn matches(pattern: &[Piece], value: &str) -> bool {
    let value: Vec<char> = value.chars().collect();
    let (mut at, mut seen) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while seen < value.len() {
        match pattern.get(at) {
            Some(Piece::Any) => {
                back = Some((at, seen));
                at += 1;
            }
            Some(Piece::One) => (at, seen) = (at + 1, seen + 1),
            Some(Piece::Letter(letter)) if *letter == value[seen] => (at, seen) = (at + 1, seen + 1),
            _ => match back {
                None => return false,
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    (at, seen) = (star + 1, from + 1);
                }
            },
        }
    }
    pattern[at..].iter().all(|piece| *piece == Piece::Any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_ec2_documents_them() {
        for (text, value, expected, why) in [
            ("abc", "abc", true, "equal"),
            ("abc", "ABC", false, "case counts"),
            ("a*c", "abbc", true, "a star is any text"),
            ("a*c", "ac", true, "a star may be nothing"),
            ("*b*", "abc", true, "stars at both ends"),
            ("a?c", "ac", false, "a question mark is exactly one"),
            ("a?c", "aäc", true, "one character, not one byte"),
            (r"a\*c", "a*c", true, "a backslash takes the meaning away"),
            (r"a\*c", "abc", false, "and only the star matches"),
            ("*ab", "aab", true, "going back to the star"),
            ("", "", true, "empty is empty"),
            ("", "a", false, "and nothing else"),
        ] {
            assert_eq!(matches(&pattern(text), value), expected, "{text} on {value}: {why}");
        }
    }

    #[test]
    fn a_hostile_pattern_ends_soon() {
        let text = "*a".repeat(200) + "b";
        assert!(!matches(&pattern(&text), &"a".repeat(4_000)));
    }
}
