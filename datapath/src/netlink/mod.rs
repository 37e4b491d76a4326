//! Route netlink: links, addresses, routes, policy rules and neighbours of one network namespace.
//!
//! [`Netlink`] is a blocking socket. Everything it can change is a [`Request`], made from a plain specification; one is
//! run by [`Netlink::run`], several in as few system calls as possible by [`Netlink::run_all`]. A request is strict
//! (`add_*` fails when it is there already) unless it was made lenient by [`Request::or_exists`] or [`Request::or_gone`];
//! `ensure_*` and `remove_*` of [`Netlink`] are the lenient ones. Specifications double as what is observed, so that a planner
//! compares like with like.

mod address;
mod link;
mod neighbour;
mod route;
mod rule;
mod watch;

pub use crate::socket::NetlinkError;
pub use address::{AddressScope, AddressSpec};
pub use link::{Link, LinkChange, LinkId, VethSpec};
pub use neighbour::NeighbourSpec;
pub use route::{RouteKind, RouteScope, RouteSpec};
pub use rule::RuleSpec;
pub use rustix::io::Errno;
pub use watch::{LinkEvent, LinkWatcher};

use crate::netns::NetNs;
use crate::socket::{Ask, Done, Socket};
use crate::{IfName, LinkIndex, MacAddr, TableId};
use netlink_sys::protocols::NETLINK_ROUTE;

/// What "already gone" looks like, by object: no such link, route, rule or neighbour, address.
const GONE: &[Errno] = &[Errno::NODEV, Errno::SRCH, Errno::NOENT, Errno::ADDRNOTAVAIL];
const EXISTS: &[Errno] = &[Errno::EXIST];

/// A change, ready to be sent.
#[derive(Debug, Clone)]
pub struct Request {
    pub(crate) ask: Ask,
}

impl Request {
    fn new(what: String, message: crate::codec::Message) -> Self {
        Self { ask: Ask { what, message, tolerated: &[] } }
    }

    /// "Exists already" counts as done.
    #[must_use]
    pub fn or_exists(mut self) -> Self {
        self.ask.tolerated = EXISTS;
        self
    }

    /// "Does not exist" counts as done.
    #[must_use]
    pub fn or_gone(mut self) -> Self {
        self.ask.tolerated = GONE;
        self
    }

    /// What it does, in words: "add route … via …".
    #[must_use]
    pub fn what(&self) -> &str {
        &self.ask.what
    }
}

/// A route-netlink socket.
#[derive(Debug)]
pub struct Netlink {
    pub(crate) socket: Socket,
}

impl Netlink {
    /// A socket in the calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { socket: Socket::open(NETLINK_ROUTE)? })
    }

    /// A socket in `ns`. It stays there, and may be used from any thread.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the kernel gives no socket.
    pub fn open_in(ns: &NetNs) -> Result<Self, NetlinkError> {
        Ok(Self { socket: Socket::open_in(NETLINK_ROUTE, ns)? })
    }

    /// A socket in `ns`, opened by the calling thread, which is in `home` before and after: see [`NetNs::visit`].
    ///
    /// # Errors
    /// As [`Netlink::open_in`].
    pub fn open_visiting(ns: &NetNs, home: &NetNs) -> Result<Self, NetlinkError> {
        Ok(Self { socket: Socket::open_visiting(NETLINK_ROUTE, ns, home)? })
    }

    /// Runs one request: `true` when something changed, `false` when it was so already (lenient requests only).
    ///
    /// # Errors
    /// What the kernel refused, in the request's words.
    pub fn run(&mut self, request: Request) -> Result<bool, NetlinkError> {
        self.socket.ask(request.ask)
    }

    /// Runs requests in order, many per system call. Not atomic: those after a refused one are still tried.
    ///
    /// # Errors
    /// The first refusal.
    pub fn run_all(&mut self, requests: Vec<Request>) -> Result<(), NetlinkError> {
        self.run_each(requests)?.into_iter().try_for_each(|done| done.map(drop))
    }

    /// As [`Netlink::run_all`], with each request's own outcome.
    ///
    /// # Errors
    /// When the conversation itself failed, so that outcomes are unknown.
    pub fn run_each(&mut self, requests: Vec<Request>) -> Result<Vec<Done>, NetlinkError> {
        self.socket.ask_all(requests.into_iter().map(|request| request.ask).collect())
    }

    /// All links of the namespace.
    ///
    /// # Errors
    /// When the kernel's list cannot be read.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let all = self.socket.dump(&link::dump())?;
        Ok(all.iter().filter_map(|received| link::decode(&received.payload)).collect())
    }

    /// The link of that name.
    ///
    /// # Errors
    /// When the kernel cannot be asked; absence is `None`.
    pub fn link_by_name(&mut self, name: &IfName) -> Result<Option<Link>, NetlinkError> {
        let ask = link::get(name);
        match self.socket.fetch(&ask)? {
            Some(received) => {
                link::decode(&received.payload).map(Some).ok_or(NetlinkError::Garbled { what: ask.what })
            }
            None => Ok(None),
        }
    }

    /// The first link with that hardware address.
    ///
    /// # Errors
    /// As [`Netlink::links`].
    pub fn link_by_mac(&mut self, mac: MacAddr) -> Result<Option<Link>, NetlinkError> {
        Ok(self.links()?.into_iter().find(|link| link.mac == Some(mac)))
    }

    /// Creates a veth pair; fails when one of the names is taken.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn create_veth(&mut self, spec: &VethSpec<'_>) -> Result<(), NetlinkError> {
        self.run(Request::create_veth(spec)).map(drop)
    }

    /// Changes a link.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn set_link(&mut self, link: impl Into<LinkId>, change: &LinkChange<'_>) -> Result<(), NetlinkError> {
        self.run(Request::set_link(link, change)).map(drop)
    }

    /// Deletes a link (a veth's other end goes with it); `false` when there is none.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn remove_link(&mut self, link: impl Into<LinkId>) -> Result<bool, NetlinkError> {
        self.run(Request::remove_link(link).or_gone())
    }

    /// IPv4 and IPv6 addresses of all links.
    ///
    /// # Errors
    /// When the kernel's list cannot be read.
    pub fn addresses(&mut self) -> Result<Vec<AddressSpec>, NetlinkError> {
        let all = self.socket.dump(&address::dump())?;
        Ok(all.iter().filter_map(|received| address::decode(&received.payload)).collect())
    }

    /// Puts an address on a link; `false` when it is there already.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn ensure_address(&mut self, spec: &AddressSpec) -> Result<bool, NetlinkError> {
        self.run(Request::add_address(spec).or_exists())
    }

    /// Takes an address off a link; `false` when it is not there.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn remove_address(&mut self, spec: &AddressSpec) -> Result<bool, NetlinkError> {
        self.run(Request::remove_address(spec).or_gone())
    }

    /// Routes of one table, or of all with `None`; IPv4 and IPv6, without cached ones.
    ///
    /// # Errors
    /// When the kernel's list cannot be read.
    pub fn routes(&mut self, table: Option<TableId>) -> Result<Vec<RouteSpec>, NetlinkError> {
        self.list_routes(table, None)
    }

    /// Routes of one table that lead to one link: the kernel filters, so that other pods' routes cost nothing.
    ///
    /// # Errors
    /// When the kernel's list cannot be read.
    pub fn routes_on(&mut self, table: TableId, link: LinkIndex) -> Result<Vec<RouteSpec>, NetlinkError> {
        self.list_routes(Some(table), Some(link))
    }

    fn list_routes(
        &mut self,
        table: Option<TableId>,
        link: Option<LinkIndex>,
    ) -> Result<Vec<RouteSpec>, NetlinkError> {
        let mut routes = Vec::new();
        for ask in route::dumps(table, link) {
            routes.extend(
                self.socket.dump(&ask)?.iter().filter_map(|received| route::decode(&received.payload)),
            );
        }
        // A kernel before 4.20 does not filter.
        routes.retain(|route| table.is_none_or(|table| route.table == table));
        routes.retain(|route| link.is_none() || route.link == link);
        Ok(routes)
    }

    /// Adds a route; `false` when one with the same key exists, whatever its next hop.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn ensure_route(&mut self, spec: &RouteSpec) -> Result<bool, NetlinkError> {
        self.run(Request::add_route(spec).or_exists())
    }

    /// Adds a route, or replaces the one with the same destination in that table.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn replace_route(&mut self, spec: &RouteSpec) -> Result<(), NetlinkError> {
        self.run(Request::replace_route(spec)).map(drop)
    }

    /// Removes the route that matches all that the specification says; `false` when there is none.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn remove_route(&mut self, spec: &RouteSpec) -> Result<bool, NetlinkError> {
        self.run(Request::remove_route(spec).or_gone())
    }

    /// All policy rules, IPv4 and IPv6.
    ///
    /// # Errors
    /// When the kernel's list cannot be read.
    pub fn rules(&mut self) -> Result<Vec<RuleSpec>, NetlinkError> {
        let mut rules = Vec::new();
        for ask in rule::dumps() {
            rules.extend(
                self.socket.dump(&ask)?.iter().filter_map(|received| rule::decode(&received.payload)),
            );
        }
        Ok(rules)
    }

    /// Adds a rule; `false` when the same one exists.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn ensure_rule(&mut self, spec: &RuleSpec) -> Result<bool, NetlinkError> {
        self.run(Request::add_rule(spec).or_exists())
    }

    /// Removes a rule; `false` when there is none like it.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn remove_rule(&mut self, spec: &RuleSpec) -> Result<bool, NetlinkError> {
        self.run(Request::remove_rule(spec).or_gone())
    }

    /// Permanent and proxy neighbours of all links.
    ///
    /// # Errors
    /// When the kernel's list cannot be read.
    pub fn neighbours(&mut self) -> Result<Vec<NeighbourSpec>, NetlinkError> {
        let mut neighbours = Vec::new();
        for ask in neighbour::dumps() {
            neighbours
                .extend(self.socket.dump(&ask)?.iter().filter_map(|got| neighbour::decode(&got.payload)));
        }
        Ok(neighbours)
    }

    /// Adds a permanent neighbour or a proxy entry, or replaces the one of that address.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn ensure_neighbour(&mut self, spec: &NeighbourSpec) -> Result<(), NetlinkError> {
        self.run(Request::replace_neighbour(spec)).map(drop)
    }

    /// Removes a neighbour; `false` when there is none.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn remove_neighbour(&mut self, spec: &NeighbourSpec) -> Result<bool, NetlinkError> {
        self.run(Request::remove_neighbour(spec).or_gone())
    }

    /// The index of the link of that name, which must exist. By ioctl, which any socket understands: neither all that is known of the link
    /// is written and read, nor is the lock of all network configuration (RTNL) waited for.
    ///
    /// # Errors
    /// `ENODEV` when it does not.
    pub fn index_of(&mut self, name: &IfName) -> Result<LinkIndex, NetlinkError> {
        rustix::net::netdevice::name_to_index(&self.socket, name.as_str()).map(LinkIndex).map_err(|errno| {
            NetlinkError::Refused { what: format!("find interface {name}"), detail: None, errno }
        })
    }
}

#[cfg(test)]
mod tests;
