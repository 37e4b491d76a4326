//! Reads that are under way or fresh, and who may share them. Which are current is [`spur_cloud::budget::Reads`]' decision.
//!
//! A read that others may share runs as a task of its own, so that it does not end when the one who began it is cancelled.

use crate::shared::{Books, Sent, Shared};
use spur_cloud::budget::Meter;
use spur_cloud::budget::{Epoch, Reads};
use spur_cloud::{
    Api, Cloud, CloudError, Eni, EniQuery, ErrorClass, Instance, InstanceId, InstanceType, Priority,
    SecurityGroupId, Subnet, SubnetQuery, Vpc, VpcId,
};
use spur_quotas::InstanceLimits;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    Limits(BTreeSet<InstanceType>),
    Instance(InstanceId),
    Existing(BTreeSet<InstanceId>),
    Vpc(VpcId),
    Subnets(SubnetQuery),
    Groups(VpcId, BTreeMap<String, String>),
    Enis(EniQuery),
}

/// What it says.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Limits(BTreeMap<InstanceType, InstanceLimits>),
    Instance(Box<Instance>),
    Existing(BTreeSet<InstanceId>),
    Vpc(Vpc),
    Subnets(Vec<Subnet>),
    Groups(BTreeSet<SecurityGroupId>),
    Enis(Vec<Eni>),
}

type Outcome = Result<Answer, CloudError>;

/// A read that was begun.
#[derive(Debug)]
struct Flight {
    question: Question,
    epoch: Epoch,
    outcome: watch::Receiver<Option<Outcome>>,
    /// Kept until then; none while it is under way.
    fresh_until: Option<Duration>,
}

/// All reads that may be shared. Few: a process asks a handful of different questions.
#[derive(Debug, Default)]
pub(crate) struct Flights(Vec<Flight>);

impl Flights {
    /// The read that may answer this question now.
    fn find(
        &self,
        question: &Question,
        reads: &Reads,
        now: Duration,
    ) -> Option<watch::Receiver<Option<Outcome>>> {
        let usable = |flight: &&Flight| {
            flight.question == *question
                && reads.is_current(flight.epoch)
                && flight.fresh_until.is_none_or(|until| now < until)
        };
        self.0.iter().find(usable).map(|flight| flight.outcome.clone())
    }

    fn begin(&mut self, question: &Question, epoch: Epoch, outcome: watch::Receiver<Option<Outcome>>) {
        self.0.push(Flight { question: question.clone(), epoch, outcome, fresh_until: None });
    }

    /// Ends the read whose outcome this is, and forgets what is no longer fresh.
    fn end(&mut self, outcome: &watch::Receiver<Option<Outcome>>, now: Duration, fresh_until: Duration) {
        for flight in self.0.iter_mut().filter(|flight| flight.outcome.same_channel(outcome)) {
            flight.fresh_until = Some(fresh_until);
        }
        self.0.retain(|flight| flight.fresh_until.is_none_or(|until| now < until));
    }
}

/// Answers a question: by a read that is under way or fresh, or by one of its own.
pub(crate) async fn read<C: Cloud>(
    shared: &Arc<Shared<C>>,
    priority: Priority,
    question: Question,
) -> Result<Answer, CloudError> {
    let meter = question.meter();
    let another = |books: &mut Books, now: Duration| books.flights.find(&question, &books.reads, now);
    let mut outcome = match shared.turn(meter, priority, another).await? {
        Ok(sent) => begin(shared, &question, sent),
        Err(another) => {
            shared.with(|books| books.of(meter.api).folded += 1);
            another
        }
    };
    let arrived = outcome.wait_for(Option::is_some).await;
    match arrived.as_deref() {
        Ok(Some(answer)) => answer.clone(),
        // The task ended without an answer: it panicked, or the runtime goes down.
        _ => Err(CloudError {
            api: meter.api,
            class: ErrorClass::Transient,
            code: None,
            message: "the read ended without an answer".to_owned(),
            request_id: None,
        }),
    }
}

fn begin<C: Cloud>(
    shared: &Arc<Shared<C>>,
    question: &Question,
    sent: Sent,
) -> watch::Receiver<Option<Outcome>> {
    let (tell, outcome) = watch::channel(None);
    shared.with(|books| {
        let epoch = books.reads.begin();
        books.flights.begin(question, epoch, outcome.clone());
    });
    shared.announce();
    let (shared, question, mine) = (Arc::clone(shared), question.clone(), outcome.clone());
    tokio::spawn(async move {
        let end = Ending { shared: &*shared, outcome: mine };
        let answer = question.ask(&shared.cloud).await;
        let requests = answer.as_ref().map_or(1, Answer::requests);
        shared.answered(sent, requests, &answer);
        let now = shared.now();
        let kept = if answer.is_ok() { Reads::fresh_for(question.meter().api) } else { Duration::ZERO };
        shared.with(|books| books.flights.end(&end.outcome, now, now.saturating_add(kept)));
        tell.send_replace(Some(answer));
    });
    outcome
}

/// Takes a read off the list that ends without an answer, so that nobody waits for it.
struct Ending<'a, C> {
    shared: &'a Shared<C>,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl<C> Drop for Ending<'_, C> {
    fn drop(&mut self) {
        if self.outcome.borrow().is_none() {
            self.shared.with(|books| books.flights.end(&self.outcome, Duration::MAX, Duration::MAX));
        }
    }
}

impl Question {
    fn meter(&self) -> Meter {
        match self {
            Self::Limits(_) => Meter::by_ids(Api::DescribeInstanceTypes),
            Self::Instance(_) => Meter::by_ids(Api::DescribeInstances),
            Self::Existing(_) => Meter::of(Api::DescribeInstances),
            Self::Vpc(_) => Meter::by_ids(Api::DescribeVpcs),
            Self::Subnets(_) => Meter::of(Api::DescribeSubnets),
            Self::Groups(..) => Meter::of(Api::DescribeSecurityGroups),
            Self::Enis(EniQuery::ByIds(_)) => Meter::by_ids(Api::DescribeNetworkInterfaces),
            Self::Enis(EniQuery::OfInstance(_) | EniQuery::Tagged(..)) => {
                Meter::of(Api::DescribeNetworkInterfaces)
            }
        }
    }

    async fn ask<C: Cloud>(&self, cloud: &C) -> Outcome {
        match self {
            Self::Limits(types) => cloud.instance_limits(types).await.map(Answer::Limits),
            Self::Instance(id) => cloud.instance(id).await.map(|found| Answer::Instance(Box::new(found))),
            Self::Existing(ids) => cloud.existing_instances(ids).await.map(Answer::Existing),
            Self::Vpc(id) => cloud.vpc(id).await.map(Answer::Vpc),
            Self::Subnets(query) => cloud.subnets(query).await.map(Answer::Subnets),
            Self::Groups(vpc, tags) => cloud.security_groups(vpc, tags).await.map(Answer::Groups),
            Self::Enis(query) => cloud.enis(query).await.map(Answer::Enis),
        }
    }
}

impl Answer {
    /// How many requests it took: a page holds a thousand things, and filters and names come in their own portions.
    fn requests(&self) -> u32 {
        let (things, at_once) = match self {
            Self::Limits(limits) => (limits.len(), 100),
            Self::Instance(_) | Self::Vpc(_) => (1, 1),
            Self::Existing(found) => (found.len(), 200),
            Self::Subnets(subnets) => (subnets.len(), 1000),
            Self::Groups(groups) => (groups.len(), 1000),
            Self::Enis(enis) => (enis.len(), 1000),
        };
        u32::try_from(things.div_ceil(at_once).max(1)).unwrap_or(u32::MAX)
    }
}
