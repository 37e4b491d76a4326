//! Bytes of netlink: headers and nested attributes, written and read. Shared by route netlink, nf_tables and conntrack.
//!
//! Own code rather than a codec crate: nf_tables has none that is complete, and a crate that decodes *everything* fails a
//! whole dump when a newer kernel changes an attribute nobody asked for. Here readers look only at what they need.
//! Nothing in this file panics on short or odd bytes: a reader stops, a writer remembers that it overflowed.

/// `NLM_F_REQUEST`.
pub(crate) const F_REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
pub(crate) const F_ACK: u16 = 0x4;
/// `NLM_F_DUMP`.
pub(crate) const F_DUMP: u16 = 0x300;
/// `NLM_F_EXCL`.
pub(crate) const F_EXCL: u16 = 0x200;
/// `NLM_F_REPLACE`.
pub(crate) const F_REPLACE: u16 = 0x100;
/// `NLM_F_CREATE`.
pub(crate) const F_CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub(crate) const F_APPEND: u16 = 0x800;

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// What is left of an attribute's type without its two flag bits.
const TYPE_MASK: u16 = 0x3fff;
/// Length of `nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// One netlink message under construction. The sequence number is filled in when it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    overflowed: bool,
}

impl Message {
    /// A message of that type with the family's own header.
    pub(crate) fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(header);
        let mut message = Self { bytes, overflowed: false };
        message.pad();
        message
    }

    /// Appends an attribute.
    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).unwrap_or_else(|_| {
            self.overflowed = true;
            4
        });
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        if !self.overflowed {
            self.bytes.extend_from_slice(value);
        }
        self.pad();
        self
    }

    /// Appends a byte.
    pub(crate) fn put_u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.put(kind, &[value])
    }

    /// Appends a number in the machine's byte order (route netlink).
    pub(crate) fn put_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Appends a number in network byte order (netfilter).
    pub(crate) fn put_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Appends text and its terminating zero.
    pub(crate) fn put_str(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.put(kind, &bytes)
    }

    /// Appends an attribute that holds what the closure appends.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.overflowed = true,
        }
        self
    }

    /// Appends raw bytes, for a header inside an attribute.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Asks for an acknowledgement.
    pub(crate) fn acknowledge(&mut self) {
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | F_ACK;
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the finished message to `out`; `false` when an attribute was longer than netlink can say.
    #[must_use]
    pub(crate) fn finish_into(&self, sequence: u32, out: &mut Vec<u8>) -> bool {
        let Ok(length) = u32::try_from(self.bytes.len()) else { return false };
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        out[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        out[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
        !self.overflowed
    }

    /// The attributes, without any header: for comparing and hashing what would be sent.
    pub(crate) fn body(&self, family_header: usize) -> &[u8] {
        self.bytes.get(HEADER + family_header..).unwrap_or(&[])
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// A message as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: Vec<u8>,
}

/// Splits one datagram into its messages; `None` when a length makes no sense.
pub(crate) fn split(mut bytes: &[u8]) -> Option<Vec<Received>> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let length = u32_at(bytes, 0)? as usize;
        if length < HEADER || length > bytes.len() {
            return None;
        }
        messages.push(Received {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            payload: bytes.get(HEADER..length)?.to_vec(),
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Some(messages)
}

/// Walks over attributes; ends at the first one that does not fit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Attributes<'a> {
    /// The attributes behind a header of that length.
    pub(crate) fn after(payload: &'a [u8], header: usize) -> Self {
        Self(payload.get(header..).unwrap_or(&[]))
    }

    /// The first attribute of that type.
    pub(crate) fn find(self, kind: u16) -> Option<&'a [u8]> {
        let mut rest = self;
        rest.find_map(|(found, value)| (found == kind).then_some(value))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    }
}

/// A byte of a header.
pub(crate) fn u8_at(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

/// Two bytes in the machine's order.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// Four bytes in the machine's order.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// Four bytes in network order.
pub(crate) fn be32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// Eight bytes in network order.
pub(crate) fn be64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?))
}

/// Text up to its terminating zero.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(message: &Message) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(message.finish_into(7, &mut out));
        out
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut message = Message::new(16, F_ACK, &[1, 2, 3, 4]);
        message.put_str(3, "lo").nest(18, |inside| {
            inside.put_u32(1, 5).put_u8(2, 6);
        });
        let bytes = finished(&message);
        let received = split(&bytes).unwrap();
        assert_eq!(received.len(), 1);
        assert_eq!((received[0].kind, received[0].flags, received[0].sequence), (16, F_ACK | F_REQUEST, 7));
        let attributes = Attributes::after(&received[0].payload, 4);
        assert_eq!(text(attributes.find(3).unwrap()), "lo");
        let inside = Attributes(attributes.find(18).unwrap());
        assert_eq!(u32_at(inside.find(1).unwrap(), 0), Some(5));
        assert_eq!(inside.find(2), Some(&[6][..]));
        assert_eq!(inside.find(9), None);
    }

    #[test]
    fn an_attribute_that_is_too_long_is_reported_not_sent() {
        let mut message = Message::new(16, 0, &[]);
        message.nest(1, |inside| {
            for _ in 0..20_000 {
                inside.put_u32(1, 0);
            }
        });
        assert!(!message.finish_into(0, &mut Vec::new()));
        let mut message = Message::new(16, 0, &[]);
        message.put(1, &vec![0; 70_000]);
        assert!(!message.finish_into(0, &mut Vec::new()));
    }

    #[test]
    fn every_prefix_and_every_flipped_byte_of_a_message_is_read_without_panic() {
        let mut message = Message::new(16, 0, &[0; 16]);
        message.put_str(3, "eth0").nest(18, |inside| {
            inside.put_u32(1, 5);
        });
        let bytes = finished(&message);
        for end in 0..bytes.len() {
            assert!(split(&bytes[..end]).is_none_or(|all| all.is_empty()), "{end}");
        }
        for at in 0..bytes.len() {
            for flip in [1, 0x80, 0xff] {
                let mut odd = bytes.clone();
                odd[at] ^= flip;
                for received in split(&odd).unwrap_or_default() {
                    for (_, value) in Attributes::after(&received.payload, 16) {
                        let _ = (text(value), u32_at(value, 0), be64(value), Attributes(value).count());
                    }
                }
            }
        }
    }
}
