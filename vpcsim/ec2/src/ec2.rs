//! The front door: [`Ec2`] takes a request body and answers with status and XML, lets time pass, and shows the world. One
//! call goes through authentication, faults, permission, parsing, semantics, the record, in this order. A lost reply is
//! lost after the record, which says what really happened.

mod outside;

use crate::action::Action;
use crate::actions;
use crate::error::{ApiError, Code};
use crate::fault::{Delivery, FaultView, Faults, MetadataFault, Refusal, Ruling};
use crate::form::Params;
use crate::imds::{self, ImdsReply, ImdsRequest};
use crate::random::Random;
use crate::record::Record;
use crate::scenario::Scenario;
use crate::time::SimTime;
use crate::view::{EniView, Happening, State};
use crate::world::World;
use crate::world::pace::Pace;
use crate::xml::Xml;
use std::time::Duration;

/// The API version that this EC2 speaks, the only one there has been since 2016.
const VERSION: &str = "2016-11-15";

/// Longest summary of parameters in the record.
const SUMMARY: usize = 400;

/// Parameters that narrow a read in the eyes of EC2's throttling, which has less patience with reads of everything.
const NARROWING: &[&str] = &["Filter", "MaxResults", "NextToken"];

/// A call without success.
#[derive(Debug)]
enum Refused {
    Error(ApiError),
    /// There is no answer at all.
    Unanswered,
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

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
    /// Whether to send it at all.
    pub delivery: Delivery,
}

/// A region of EC2 with one VPC.
#[derive(Debug)]
pub struct Ec2 {
    world: World,
    faults: Faults,
    record: Vec<Record>,
    request_ids: Random,
    seal: u64,
    now: SimTime,
}

impl Ec2 {
    /// The world of a scenario at the beginning. The primary ENIs arrive with the first [`Ec2::advance`].
    #[must_use]
    pub fn new(scenario: &Scenario, now: SimTime) -> Self {
        let world = World::new(scenario, now);
        Self {
            faults: Faults::begin(scenario.faults.clone(), scenario.seed, now, &world),
            world,
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
        let caller_name = self.name_of(caller);
        let mut ruling = Ruling::default();
        let result = params
            .map_err(Refused::Error)
            .and_then(|params| self.answer(caller, &caller_name, params, &mut ruling));
        let outcome = match &result {
            Ok(_) => "OK",
            Err(Refused::Error(error)) => error.code.text(),
            Err(Refused::Unanswered) => "Timeout",
        };
        let (status, body) = told(result, ruling.lost, &request_id).unwrap_or_default();
        let delivery = if status == 0 { Delivery::Drop } else { Delivery::Send };
        self.record.push(Record {
            at: self.now,
            caller: caller_name,
            action: name.chars().take(100).collect(),
            parameters: summary,
            outcome: outcome.to_owned(),
            status,
            request_id: request_id.clone(),
            held: ruling.hold,
            faults: ruling.by,
        });
        Answer { status, body, request_id, hold: ruling.hold, delivery }
    }

    fn answer(
        &mut self,
        caller: &Caller,
        name: &str,
        mut params: Params,
        ruling: &mut Ruling,
    ) -> Result<(Action, String), Refused> {
        let (key, action) = self.authenticate(caller, &mut params)?;
        let is_narrowed = NARROWING.iter().any(|name| params.has(name));
        *ruling = self.faults.rule_call(action, name, is_narrowed, self.now);
        self.permit(key, action, matches!(ruling.refusal, Some(Refusal::Deny)))?;
        match ruling.refusal.take() {
            Some(Refusal::Error(error)) => return Err(Refused::Error(error)),
            Some(Refusal::Timeout) => return Err(Refused::Unanswered),
            Some(Refusal::Deny) | None => {}
        }
        let past = ruling.stale.and_then(|lag| self.faults.past(lag, self.now));
        self.world.set_pace(ruling.pace);
        let done = actions::perform(&mut self.world, past, self.seal, self.now, action, params);
        self.world.set_pace(Pace::Usual);
        if done.is_ok() && !action.is_read() {
            self.faults.note(self.now, &self.world);
        }
        Ok((action, done?))
    }

    /// Who calls what.
    fn authenticate<'c>(
        &self,
        caller: &'c Caller,
        params: &mut Params,
    ) -> Result<(&'c str, Action), ApiError> {
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
        // Keys that no node has are an operator's, unless they look like a node's.
        if key.starts_with("ASIA") && self.world.instance_by_key(key).is_none() {
            return Err(
                Code::AuthFailure.because("AWS was not able to validate the provided access credentials")
            );
        }
        Ok((key, action))
    }

    /// Callers may do what neither the scenario nor a fault denies.
    fn permit(&self, key: &str, action: Action, is_denied: bool) -> Result<(), ApiError> {
        let instance = self.world.instance_by_key(key);
        if !is_denied && instance.is_none_or(|instance| !instance.denied.contains(action.name())) {
            return Ok(());
        }
        let user = instance.map_or_else(
            || format!("arn:aws:iam::{}:user/operator", self.world.account),
            |instance| imds::role_arn(&self.world, instance),
        );
        let name = action.name();
        let message = format!(
            "You are not authorized to perform this operation. User: {user} is not authorized to perform: ec2:{name}"
        );
        Err(Code::UnauthorizedOperation.because(message))
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
        while let Some(at) = self.next_change().filter(|at| *at <= self.now) {
            if self.world.next_landing() == Some(at) {
                self.world.land();
            } else {
                self.faults.strike(&mut self.world);
            }
            self.faults.note(at, &self.world);
        }
    }

    fn next_change(&self) -> Option<SimTime> {
        self.world.next_landing().into_iter().chain(self.faults.next_event()).min()
    }

    /// The faults at work, and how often each struck.
    #[must_use]
    pub fn faults(&self) -> Vec<FaultView> {
        self.faults.views()
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
        if self.world.has_news() { Some(self.now) } else { self.next_change() }
    }

    /// The content of a node's metadata service at `path` (from `/latest/…`), or none where there is nothing. Without the
    /// token rules, which are in [`Ec2::imds_request`].
    #[must_use]
    pub fn imds(&self, node: &str, path: &str, now: SimTime) -> Option<String> {
        let instance = self.world.node(node)?;
        imds::find(&self.world, instance, path, now.max(self.now))
    }

    /// Answers a request to a node's metadata service, IMDSv2 only: without a token there is nothing to see.
    pub fn imds_request(&mut self, node: &str, request: &ImdsRequest<'_>, now: SimTime) -> ImdsReply {
        let now = now.max(self.now);
        let Some(instance) = self.world.node(node) else { return ImdsReply::empty(404) };
        if instance.terminated {
            return ImdsReply { delivery: Delivery::Drop, ..ImdsReply::empty(0) };
        }
        let struck = self.faults.rule_metadata(node, request.path, now);
        let lags = struck.iter().filter_map(|fault| match fault {
            MetadataFault::Stale(lag) => Some(*lag),
            _ => None,
        });
        let past = lags.max().and_then(|lag| self.faults.past(lag, now)).unwrap_or(&self.world);
        let instance = past.node(node).unwrap_or(instance);
        imds::spoil(imds::answer(past, instance, self.seal, request, now), &struck)
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

/// What the caller gets to see, if anything: status and body.
fn told(
    result: Result<(Action, String), Refused>,
    lost: Option<Option<Code>>,
    request_id: &str,
) -> Option<(u16, String)> {
    let error = |error: ApiError| (error.code.status(), failure(&error, request_id));
    match (result, lost) {
        (Ok((action, content)), None) => Some((200, success(action, request_id, &content))),
        (Ok(_), Some(instead)) => instead.map(|code| error(code.because(code.usual_words()))),
        (Err(Refused::Error(cause)), _) => Some(error(cause)),
        (Err(Refused::Unanswered), _) => None,
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
