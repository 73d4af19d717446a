//! A search through all states that a protocol can reach within bounds, over the engines' own
//! `step`: there is no model of a protocol here, only of what is around it.
//!
//! A state is a tuple of numbers. Each node's local state (engine, durable part, what it waits
//! for) is interned under its canonical text, and each set of messages under its members; so a
//! step of an engine is computed once for each local state and input, however many states of the
//! whole share it. Engines are deterministic, hence nothing is lost by that.
//!
//! The network is the set of what was said. A message stays in it when it is delivered, and it may
//! be delivered at any later time, or never: that is delay, reorder, duplication and loss.

#![allow(dead_code, reason = "each test uses its part")]

mod liar;
pub mod pbft;
pub mod raft;
mod text;

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

/// What can happen.
pub trait Model {
    /// All of it, in canonical form: equal states behave equally.
    type State: Copy + Eq + Hash + Debug;
    /// What leads from a state to the next.
    type Action: Debug;

    /// Before anything happened.
    fn initial(&self) -> Self::State;

    /// Everything that can happen next, or the invariant that breaks with it.
    #[allow(clippy::type_complexity, reason = "a pair in a list in a result")]
    fn next(
        &mut self,
        state: Self::State,
    ) -> Result<Vec<(Self::Action, Self::State)>, (Self::Action, String)>;

    /// The state for people.
    fn show(&self, state: Self::State) -> String;
}

/// How large a search was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Different states.
    pub states: usize,
    /// Ways from one to another.
    pub transitions: usize,
    /// The longest of the shortest ways to a state.
    pub depth: usize,
}

/// An invariant that broke.
#[derive(Debug)]
pub struct Violation {
    /// Which.
    pub what: String,
    /// A shortest way to it.
    pub path: Vec<String>,
    /// States seen until then.
    pub states: usize,
}

/// Visits every state, breadth first. Panics above `most` states: a bound is wrong then, and a
/// search that stops early proves nothing.
pub fn explore<M: Model>(model: &mut M, most: usize) -> Result<Size, Box<Violation>> {
    let mut order = vec![(model.initial(), 0)];
    let mut known = HashMap::from([(model.initial(), ())]);
    let (mut transitions, mut depth, mut level_end) = (0, 0, 1);
    let mut at = 0;
    while at < order.len() {
        if at == level_end {
            (depth, level_end) = (depth + 1, order.len());
        }
        let next = match model.next(order[at].0) {
            Ok(next) => next,
            Err((action, what)) => {
                let mut path = path_to(model, &order, at);
                path.push(format!("{action:?}: {what}"));
                return Err(Box::new(Violation { what, path, states: order.len() }));
            }
        };
        for (_, state) in next {
            transitions += 1;
            if known.insert(state, ()).is_none() {
                order.push((state, at));
            }
        }
        assert!(order.len() <= most, "more than {most} states, at depth {depth}");
        at += 1;
    }
    Ok(Size { states: order.len(), transitions, depth })
}

fn path_to<M: Model>(model: &mut M, order: &[(M::State, usize)], end: usize) -> Vec<String> {
    let mut path = Vec::new();
    let mut at = end;
    while at != 0 {
        let (state, parent) = order[at];
        let next = model.next(order[parent].0).expect("it was searched before");
        let (action, _) = next.iter().find(|(_, to)| *to == state).expect("it led here");
        path.push(format!("{action:?} -> {}", model.show(state)));
        at = parent;
    }
    path.reverse();
    path
}

/// What a search finds with a bug planted, which must be a violation.
#[cfg(feature = "planted")]
pub fn expect_found<M: Model>(bug: landfall_consensus::Bug, mut model: M, what: &str) {
    landfall_consensus::plant(Some(bug));
    let found = explore(&mut model, 1_000_000);
    landfall_consensus::plant(None);
    let violation = found.expect_err("the bug breaks nothing within these bounds");
    println!("{bug:?}: {} after {} states:", violation.what, violation.states);
    println!("{}", violation.path.join("\n"));
    assert!(violation.what.contains(what), "{}", violation.what);
}

/// Values by number, and numbers by key.
pub struct Interned<K, V> {
    numbers: HashMap<K, u32>,
    values: Vec<V>,
    /// Of some keys, the last value that was not kept.
    others: HashMap<u32, V>,
}

impl<K: Eq + Hash, V> Interned<K, V> {
    pub fn new() -> Self {
        Self { numbers: HashMap::new(), values: Vec::new(), others: HashMap::new() }
    }

    /// The number of a key; the value of the first with this key is kept.
    pub fn number(&mut self, key: K, value: impl FnOnce() -> V) -> u32 {
        let fresh = u32::try_from(self.values.len()).expect("fewer than 2^32");
        *self.numbers.entry(key).or_insert_with(|| {
            self.values.push(value());
            fresh
        })
    }

    /// The same, and a later value with this key is kept beside the first.
    pub fn number_of(&mut self, key: K, value: V) -> u32 {
        if let Some(number) = self.numbers.get(&key) {
            self.others.insert(*number, value);
            return *number;
        }
        self.number(key, || value)
    }

    /// Another value of the same key, if there was one.
    pub fn other(&self, number: u32) -> Option<&V> {
        self.others.get(&number)
    }

    pub fn get(&self, number: u32) -> &V {
        &self.values[number as usize]
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }
}
