//! The front door: [`Ec2`] takes a request body and answers with status and XML, lets time pass, and shows the world. One
//! call goes through authentication, permission, parsing, semantics and the record, in this order. Faults will have their
//! place between permission and semantics ([`Ec2::call`]); nothing else needs to change for them.

use crate::action::Action;
use crate::actions;
use crate::error::{ApiError, Code};
use crate::form::Params;
use crate::imds::{self, ImdsReply, ImdsRequest};
use crate::random::Random;
use crate::record::Record;
use crate::scenario::Scenario;
use crate::time::SimTime;
use crate::view::{EniView, Happening, State};
use crate::world::World;
use crate::xml::Xml;
use std::time::Duration;

/// The API version that this EC2 speaks, the only one there has been since 2016.
const VERSION: &str = "2016-11-15";

/// Longest summary of parameters in the record.
const SUMMARY: usize = 400;

/// Who calls: the access key id of the request's signature. Signatures themselves are not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Somebody without a signature.
    Anonymous,
    /// The holder of this access key: a node, if the metadata service gave the key to one, otherwise an operator.
    Key(String),
}

impl Caller {
    /// The caller that an `Authorization` header names (Signature Version 4).
    #[must_use]
    pub fn of_header(authorization: Option<&str>) -> Self {
        let credential = authorization.and_then(|header| header.split_once("Credential="));
        let key = credential.and_then(|(_, rest)| rest.split(['/', ',', ' ']).next());
        key.filter(|key| !key.is_empty()).map_or(Self::Anonymous, |key| Self::Key(key.to_owned()))
    }
}

/// What to send back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body, `text/xml;charset=UTF-8`.
    pub body: String,
    /// The id of the request, also in the body; EC2 repeats it in the header `x-amzn-requestid`.
    pub request_id: String,
    /// How long to hold the answer back. Zero while there are no faults.
    pub hold: Duration,
}

/// A region of EC2 with one VPC.
#[derive(Debug)]
pub struct Ec2 {
    world: World,
    record: Vec<Record>,
    request_ids: Random,
    seal: u64,
    now: SimTime,
}

impl Ec2 {
    /// The world of a scenario at the beginning. The primary ENIs arrive with the first [`Ec2::advance`].
    #[must_use]
    pub fn new(scenario: &Scenario, now: SimTime) -> Self {
        Self {
            world: World::new(scenario, now),
            record: Vec::new(),
            // A stream of its own, so that reads do not change which ids and addresses come next.
            request_ids: Random::new(scenario.seed ^ 0x7265_7175_6573_7473),
            seal: scenario.seed,
            now,
        }
    }

    /// Answers a request body (`application/x-www-form-urlencoded`). What follows from it is in the next
    /// [`Ec2::advance`], so call that afterwards.
    pub fn call(&mut self, now: SimTime, caller: &Caller, form: &[u8]) -> Answer {
        self.pass(now);
        let request_id = self.draw_request_id();
        let params = Params::parse(form);
        let (name, summary) = match &params {
            Ok(params) => (params.peek("Action").unwrap_or_default().to_owned(), params.summary(SUMMARY)),
            Err(_) => Default::default(),
        };
        let result = params.and_then(|params| self.answer(caller, params));
        let (status, outcome, body) = match result {
            Ok((action, content)) => (200, "OK", success(action, &request_id, &content)),
            Err(error) => (error.code.status(), error.code.text(), failure(&error, &request_id)),
        };
        self.record.push(Record {
            at: self.now,
            caller: self.name_of(caller),
            action: name.chars().take(100).collect(),
            parameters: summary,
            outcome: outcome.to_owned(),
            status,
            request_id: request_id.clone(),
            held: Duration::ZERO,
        });
        Answer { status, body, request_id, hold: Duration::ZERO }
    }

    fn answer(&mut self, caller: &Caller, mut params: Params) -> Result<(Action, String), ApiError> {
        let Caller::Key(key) = caller else {
            return Err(Code::MissingAuthenticationToken.because(
                "Request must contain either a valid (registered) AWS access key ID or X.509 certificate.",
            ));
        };
        let Some(name) = params.text("Action").filter(|name| !name.is_empty()) else {
            return Err(Code::MissingAction.because("The request must contain the parameter Action"));
        };
        let version = params.required("Version")?;
        let shown = |text: &str| text.chars().take(100).collect::<String>();
        if version != VERSION {
            let message =
                format!("The requested version ({}) of service AmazonEC2 does not exist", shown(&version));
            return Err(Code::NoSuchVersion.because(message));
        }
        let action = Action::named(&name).ok_or_else(|| {
            Code::InvalidAction
                .because(format!("The action {} is not valid for this web service.", shown(&name)))
        })?;
        self.permit(key, action)?;
        actions::perform(&mut self.world, self.seal, self.now, action, params)
            .map(|content| (action, content))
    }

    /// Nodes may do what the scenario does not deny; keys that no node has are an operator's, unless they look like a node's.
    fn permit(&self, key: &str, action: Action) -> Result<(), ApiError> {
        match self.world.instance_by_key(key) {
            Some(instance) if instance.denied.contains(action.name()) => {
                let message = format!(
                    "You are not authorized to perform this operation. User: {} is not authorized to perform: ec2:{}",
                    imds::role_arn(&self.world, instance),
                    action.name()
                );
                Err(Code::UnauthorizedOperation.because(message))
            }
            None if key.starts_with("ASIA") => {
                Err(Code::AuthFailure.because("AWS was not able to validate the provided access credentials"))
            }
            _ => Ok(()),
        }
    }

    fn name_of(&self, caller: &Caller) -> String {
        match caller {
            Caller::Anonymous => "anonymous".to_owned(),
            Caller::Key(key) => self
                .world
                .instance_by_key(key)
                .map_or_else(|| "operator".to_owned(), |node| node.node.clone()),
        }
    }

    fn draw_request_id(&mut self) -> String {
        let (high, low) = (self.request_ids.next(), self.request_ids.next());
        let high = high & 0xffff_ffff_ffff_0fff | 0x4000;
        let low = low & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000;
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }

    /// Time never goes back, whatever a clock says.
    fn pass(&mut self, now: SimTime) {
        self.now = self.now.max(now);
        self.world.land(self.now);
    }

    /// Lets time pass and says what has happened since the last time, in order. Call it after every [`Ec2::call`] and
    /// when [`Ec2::next_event`] is due.
    pub fn advance(&mut self, now: SimTime) -> Vec<Happening> {
        self.pass(now);
        self.world.take_news()
    }

    /// When [`Ec2::advance`] will have something to say; none if only a call can bring that about.
    #[must_use]
    pub fn next_event(&self) -> Option<SimTime> {
        if self.world.has_news() { Some(self.now) } else { self.world.next_landing() }
    }

    /// The content of a node's metadata service at `path` (from `/latest/…`), or none where there is nothing. Without the
    /// token rules, which are in [`Ec2::imds_request`].
    #[must_use]
    pub fn imds(&self, node: &str, path: &str, now: SimTime) -> Option<String> {
        let instance = self.world.node(node)?;
        imds::find(&self.world, instance, path, now.max(self.now))
    }

    /// Answers a request to a node's metadata service, IMDSv2 only: without a token there is nothing to see.
    #[must_use]
    pub fn imds_request(&self, node: &str, request: &ImdsRequest<'_>, now: SimTime) -> ImdsReply {
        let now = now.max(self.now);
        match self.world.node(node) {
            Some(instance) => imds::answer(&self.world, instance, self.seal, request, now),
            None => ImdsReply::empty(404),
        }
    }

    /// The world as it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.world.state()
    }

    /// One ENI as it is, by the text of its id.
    #[must_use]
    pub fn eni(&self, id: &str) -> Option<EniView> {
        self.world.view_of(&crate::id::EniId::parse(id)?)
    }

    /// Every call so far.
    #[must_use]
    pub fn record(&self) -> &[Record] {
        &self.record
    }

    /// Takes the record out; what comes later begins a new one.
    pub fn take_record(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.record)
    }
}

fn success(action: Action, request_id: &str, content: &str) -> String {
    let name = action.name();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{name}Response xmlns=\"http://ec2.amazonaws.com/doc/{VERSION}/\">\
         <requestId>{request_id}</requestId>{content}</{name}Response>"
    )
}

fn failure(error: &ApiError, request_id: &str) -> String {
    let mut xml = Xml::document();
    xml.element("Response", |xml| {
        xml.element("Errors", |xml| {
            xml.element("Error", |xml| {
                xml.text("Code", error.code);
                xml.text("Message", &error.message);
            });
        });
        xml.text("RequestID", request_id);
    });
    xml.finish()
}
