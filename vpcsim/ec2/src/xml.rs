//! Writing XML as EC2 does: elements and text, no attributes beside the name space. Characters that XML cannot carry
//! (a caller may have sent them in a tag) become U+FFFD, so that every answer is well-formed whatever was asked. Reading XML
//! is not needed: requests come as forms.

use std::fmt::{Display, Write};

/// A document being written.
#[derive(Debug, Default)]
pub(crate) struct Xml(String);

impl Xml {
    pub(crate) fn document() -> Self {
        Self("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned())
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }

    /// An element with what `content` writes into it.
    pub(crate) fn element(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        self.open(name, "");
        content(self);
        self.close(name);
    }

    pub(crate) fn open(&mut self, name: &str, attributes: &str) {
        self.push(format_args!("<{name}{attributes}>"));
    }

    pub(crate) fn close(&mut self, name: &str) {
        self.push(format_args!("</{name}>"));
    }

    /// An element with a text.
    pub(crate) fn text(&mut self, name: &str, value: impl Display) {
        self.open(name, "");
        let mut escaped = Escape(&mut self.0);
        // Writing to a String cannot fail.
        let _ = write!(escaped, "{value}");
        self.close(name);
    }

    /// A list: one `item` per value.
    pub(crate) fn list<T>(
        &mut self,
        name: &str,
        values: impl IntoIterator<Item = T>,
        mut each: impl FnMut(&mut Self, T),
    ) {
        self.element(name, |xml| {
            for value in values {
                xml.element("item", |xml| each(xml, value));
            }
        });
    }

    fn push(&mut self, piece: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.0.write_fmt(piece);
    }
}

struct Escape<'s>(&'s mut String);

impl Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for letter in text.chars() {
            match letter {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                // A bare carriage return would be read back as a line feed.
                '\r' => self.0.push_str("&#xD;"),
                '\t' | '\n' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => {
                    self.0.push(letter)
                }
                _ => self.0.push('\u{fffd}'),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_what_xml_cannot_carry_is_replaced() {
        let mut xml = Xml::default();
        xml.element("a", |xml| xml.text("b", "1 < 2 & \"3\"\r\u{0}"));
        assert_eq!(xml.finish(), "<a><b>1 &lt; 2 &amp; &quot;3&quot;&#xD;\u{fffd}</b></a>");
    }
}
