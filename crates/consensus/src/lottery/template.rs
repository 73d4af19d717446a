//! The block that a node of a lottery is making: when it is begun, and when begun anew.

use super::Ticket;
use crate::retransmit::Backoff;
use alloy_primitives::{Bytes, U256};
use landfall_types::{Span, Time};

/// What is made on the head.
///
/// Begun once for a ticket without work. One that must be worked for is begun anew, at most a
/// quarter of the block interval after it was begun if transactions have come since, or else
/// after a span that doubles each time: a block that takes long to build must have its chance.
#[derive(Debug)]
pub(super) struct Template {
    ticket: Option<Ticket>,
    begun: Option<Begun>,
    pending: bool,
    /// Of this instance: two blocks that differ in nothing else differ in it.
    number: u64,
    quarter: Span,
    renewal: Backoff,
}

#[derive(Debug)]
struct Begun {
    at: Time,
    with_transactions: bool,
    renewals: u64,
}

impl Template {
    pub(super) fn new(block_interval: Span, renewal_max: Span) -> Self {
        Self {
            ticket: None,
            begun: None,
            pending: false,
            number: 0,
            quarter: Span((block_interval.0 / 4).max(1)),
            renewal: Backoff::new(block_interval, renewal_max.max(block_interval)),
        }
    }

    /// There is a new head; nothing waits above it until the replica says so.
    pub(super) fn restart(&mut self, ticket: Option<Ticket>) {
        self.ticket = ticket;
        self.begun = None;
        self.pending = false;
    }

    /// Transactions wait, or none does.
    pub(super) fn pending(&mut self, pending: bool) {
        self.pending = pending;
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let ticket = self.ticket.as_ref()?;
        match &self.begun {
            None => Some(ticket.at),
            Some(_) if ticket.difficulty.is_none() => None,
            Some(begun) if self.pending && !begun.with_transactions => {
                Some(begun.at + self.quarter)
            }
            Some(begun) => Some(begun.at + self.renewal.after(begun.renewals)),
        }
    }

    pub(super) fn is_due(&self, now: Time) -> bool {
        self.deadline().is_some_and(|due| due <= now)
    }

    /// Begins the block: its time, its data and its difficulty.
    pub(super) fn begin(&mut self, now: Time) -> Option<(Time, Bytes, Option<U256>)> {
        let ticket = self.ticket.as_ref()?;
        self.begun = Some(Begun {
            at: now,
            with_transactions: self.pending,
            renewals: self.begun.as_ref().map_or(0, |begun| begun.renewals + 1),
        });
        self.number += 1;
        let bytes = self.number.to_be_bytes();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let time = if ticket.difficulty.is_some() { now } else { ticket.at };
        Some((time, Bytes::copy_from_slice(&bytes[zeros..]), ticket.difficulty))
    }

    pub(super) fn describe(&self) -> String {
        match (&self.ticket, &self.begun) {
            (None, _) => "making nothing".to_owned(),
            (Some(ticket), None) => format!("making a block at {}", ticket.at),
            (Some(_), Some(begun)) => format!("making block {} since {}", self.number, begun.at),
        }
    }
}
