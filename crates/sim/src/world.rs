//! One history: nodes, what lies between them, and what happens to them, on one thread and from
//! one seed.

use crate::ambush::Ambush;
use crate::byzantine::Conduct;
use crate::checker::Checker;
use crate::class::Class;
use crate::clock::Clock;
use crate::host::{Done, Effect, Host, Machine, Refusal, Wire, arrival, boundary};
use crate::keys::{self, HistorySigner, Signatures};
use crate::network::{Network, Weather};
use crate::queue::{Moment, Queue};
use crate::report::{Outcome, Stats, Violation};
use crate::scenario::{Adversary, Scenario, Setup, stream};
use crate::transactions::ACCOUNTS;
use landfall_chain::store::{MemoryViews, TestDisk};
use landfall_consensus::Random;
use landfall_replica::{Halt, Job};
use landfall_types::{Kind, NodeId};
use parking_lot::Mutex;
use std::sync::Arc;

/// The faults go on until so many of a hundred of the heights are final.
const FAULTY_SHARE: u64 = 80;
/// The faults go on for so many intervals between blocks at most, per height.
const FAULTY_MOST: Moment = 3;
/// Faults that a history has before it heals, if they do not take too long.
const FAULTS_LEAST: u64 = 20;
/// How long nothing is executed before some histories heal: a timeout without an upper bound has
/// doubled often by then.
const STALL: Moment = 400_000;
/// Events that no history needs: something talks to itself.
const EVENTS_MOST: u64 = 4_000_000;

/// A place where a node runs: twins are two of them with one identity.
pub(crate) struct Slot {
    pub number: usize,
    pub id: NodeId,
    pub liar: Option<Conduct>,
    pub host: Option<Host>,
    /// Counts starts and ends: what belongs to an earlier life is dropped.
    pub life: u64,
    pub disk: TestDisk,
    pub views: MemoryViews,
    pub clock: Clock,
    pub signer: Arc<HistorySigner>,
    /// When the next wake is queued.
    pub armed: Option<Moment>,
    /// A byte and a bit that somebody turned around.
    pub damage: Option<(String, usize, u8)>,
    /// Its disk is full or about to fail: that the store fails is expected.
    pub ailing: bool,
    pub slow_disk_until: Moment,
    pub slow_jobs_until: Moment,
    /// It stopped for good, and that was to be expected.
    pub stopped: bool,
}

/// A crash that waits for its place.
pub(crate) struct Trap {
    pub place: &'static str,
    pub countdown: u64,
    pub until: Moment,
}

/// What happens.
pub(crate) enum Event {
    Deliver {
        slot: usize,
        from: NodeId,
        wire: Arc<Wire>,
    },
    /// A job that runs at its end.
    Run {
        slot: usize,
        life: u64,
        job: Box<Job>,
    },
    /// A job that ran at its beginning.
    Ran {
        slot: usize,
        life: u64,
        done: Box<Done>,
    },
    Wake {
        slot: usize,
    },
    Boot {
        slot: usize,
    },
    Fault,
    Offer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Faulty,
    /// Nothing is executed: rounds fail, and their timeouts grow. Then it heals.
    Stalled,
    /// Healed at a moment, when so many heights were final somewhere.
    Healed {
        at: Moment,
        height: u64,
    },
    /// Progress was made; the rest of the heights must follow.
    Calm {
        since: Moment,
        height: u64,
    },
    Over,
}

/// Told what happens, for a person.
pub(crate) type Story<'a> = &'a mut dyn FnMut(String);

/// See the module.
pub(crate) struct World<'a> {
    pub scenario: &'a Scenario,
    pub setup: Setup,
    pub seed: u64,
    pub slots: Vec<Slot>,
    pub queue: Queue<Event>,
    pub network: Network,
    pub now: Moment,
    pub faults: Random,
    pub jobs: Random,
    pub lies: Random,
    clients: Random,
    pub traps: Vec<Trap>,
    pub ambush: Ambush,
    /// Until then executing and building do not end.
    pub stalled_until: Moment,
    /// Not before this are links cut again, once a spell of cuts or a long partition is over.
    pub whole_from: Moment,
    pub checker: Checker,
    pub stats: Stats,
    pub violation: Option<Violation>,
    pub table: Arc<Mutex<Signatures>>,
    phase: Phase,
    trace: u64,
    story: Option<Story<'a>>,
}

impl<'a> World<'a> {
    /// Everything at moment 0, nodes about to start.
    pub fn new(scenario: &'a Scenario, seed: u64, story: Option<Story<'a>>) -> Self {
        let setup = Setup::draw(scenario, seed);
        let table = Arc::new(Mutex::new(Signatures::default()));
        let mut clocks = stream(seed, 2);
        let mut numbers: Vec<usize> = (0..setup.nodes).collect();
        numbers.extend(&setup.twins);
        let skewed = setup.classes.contains(&Class::ClockOffset);
        let slots: Vec<Slot> = numbers
            .iter()
            .enumerate()
            .map(|(place, number)| {
                let offset = clocks.below(if skewed { 4_000 } else { 100 }) as i64;
                let liar = setup.liars.contains(number).then(|| Conduct::new(place >= setup.nodes));
                Slot::new(*number, liar, seed, place, Clock::new(offset), table.clone())
            })
            .collect();
        let weather = Weather { loss: 2, duplicate: 2, reorder: 1, delay: (2, 60) };
        let mut world = Self {
            network: Network::new(slots.len(), stream(seed, 3), weather),
            queue: Queue::new(stream(seed, 4)),
            faults: stream(seed, 5),
            jobs: stream(seed, 6),
            lies: stream(seed, 7),
            clients: stream(seed, 8),
            checker: Checker::new(scenario, slots.len()),
            stats: Stats::default(),
            violation: None,
            whole_from: 0,
            traps: Vec::new(),
            ambush: Ambush::default(),
            stalled_until: 0,
            now: 0,
            phase: Phase::Faulty,
            trace: seed,
            scenario,
            setup,
            seed,
            slots,
            table,
            story,
        };
        world.stats.drawn = world.setup.classes.clone();
        if skewed {
            world.count_fault(Class::ClockOffset);
        }
        for slot in 0..world.slots.len() {
            world.queue.push(slot as u64 * 7, Event::Boot { slot });
        }
        world.queue.push(1_500, Event::Fault);
        world.queue.push(100, Event::Offer);
        world
    }

    /// Lets everything happen.
    pub fn run(mut self) -> Outcome {
        while self.violation.is_none() && self.phase != Phase::Over {
            let Some((at, event)) = self.queue.pop() else { break };
            self.now = at;
            self.stats.events += 1;
            if self.stats.events > EVENTS_MOST {
                self.fail(None, "M4", format!("{EVENTS_MOST} events and no end"));
            }
            self.happen(event);
            self.move_on();
        }
        if self.violation.is_none()
            && let Err((rule, what)) = self.checker.audit(&self.slots, &self.setup, &mut self.stats)
        {
            self.fail(None, rule, what);
        }
        self.stats.simulated = self.now;
        self.stats.histories = 1;
        Outcome { seed: self.seed, violation: self.violation, trace: self.trace, stats: self.stats }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { slot, from, wire } => {
                if self.is_up(slot) && !self.springs(slot, "before a message is taken in") {
                    let wire = Arc::try_unwrap(wire).unwrap_or_else(|shared| (*shared).clone());
                    if self.slots[slot].liar.is_none() {
                        self.checker.heard(&wire);
                    }
                    self.stats.messages += 1;
                    self.step(slot, |host, now| host.deliver(now, from, wire));
                }
            }
            Event::Run { slot, life, job } => {
                if self.slots[slot].life == life {
                    let host = self.slots[slot].host.as_ref().expect("this life goes on");
                    let done = host.run(*job);
                    self.take_in(slot, done);
                }
            }
            Event::Ran { slot, life, done } => {
                if self.slots[slot].life == life {
                    self.take_in(slot, *done);
                }
            }
            Event::Wake { slot } => self.wake(slot),
            Event::Boot { slot } => self.boot(slot),
            Event::Fault => self.fault(),
            Event::Offer => self.offer(),
        }
    }

    fn take_in(&mut self, slot: usize, done: Done) {
        self.listen(slot);
        if !self.springs(slot, arrival(&done)) {
            self.step(slot, |host, now| host.finish(now, done));
        }
    }

    fn wake(&mut self, slot: usize) {
        // An earlier wake was queued since, and has served this one.
        if self.slots[slot].armed != Some(self.now) {
            return;
        }
        self.slots[slot].armed = None;
        let now = self.slots[slot].clock.show(self.now);
        let Some(host) = &self.slots[slot].host else { return };
        if host.deadline().is_some_and(|due| due <= now) {
            if !self.springs(slot, "before a deadline is served") {
                self.step(slot, |host, now| host.wake(now));
            }
        } else {
            self.arm(slot);
        }
    }

    fn offer(&mut self) {
        let again = self.setup.interval / 2 + self.clients.below(self.setup.interval);
        self.queue.push(self.now + again, Event::Offer);
        let accounts = self.clients.next_u64();
        for slot in 0..self.slots.len() {
            if self.is_up(slot) {
                let chosen = (0..ACCOUNTS).filter(|index| accounts >> index & 1 == 1);
                self.step(slot, |host, now| host.offer(now, chosen));
            }
        }
    }

    /// Steps a node, performs what it says, and looks at it.
    pub fn step(
        &mut self,
        slot: usize,
        act: impl FnOnce(&mut Host, landfall_types::Time) -> Result<Vec<Effect>, Halt>,
    ) {
        let now = self.slots[slot].clock.show(self.now);
        let Some(host) = &mut self.slots[slot].host else { return };
        match act(host, now) {
            Ok(effects) => self.perform_all(slot, effects),
            Err(halt) => self.halted(slot, halt),
        }
        self.look(slot);
    }

    fn look(&mut self, slot: usize) {
        self.arm(slot);
        let Some(host) = &self.slots[slot].host else { return };
        let (head, finalized) = (host.choice().head, host.choice().finalized);
        for part in [self.now, slot as u64, first_bytes(&head.0), first_bytes(&finalized.0)] {
            self.trace = (self.trace.rotate_left(7) ^ part).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
        if let Err((rule, what)) = self.checker.look(slot, &mut self.slots, &mut self.stats) {
            self.fail(Some(slot), rule, what);
        }
    }

    /// Performs effects in order; a crash may stand between any two.
    pub fn perform_all(&mut self, slot: usize, effects: Vec<Effect>) {
        let life = self.slots[slot].life;
        for effect in effects {
            if self.slots[slot].life != life || self.springs(slot, boundary(&effect)) {
                return;
            }
            self.perform(slot, effect);
        }
    }

    /// Whether a node runs.
    pub fn is_up(&self, slot: usize) -> bool {
        self.slots[slot].host.is_some()
    }

    /// Queues the next wake, if it is earlier than the one that is queued.
    pub fn arm(&mut self, slot: usize) {
        let it = &mut self.slots[slot];
        let Some(due) = it.host.as_ref().and_then(Host::deadline) else { return };
        let Some(at) = it.clock.moment(due, self.now) else { return };
        if it.armed.is_none_or(|armed| at < armed) {
            it.armed = Some(at);
            self.queue.push(at, Event::Wake { slot });
        }
    }

    fn boot(&mut self, slot: usize) {
        if self.is_up(slot) || self.slots[slot].stopped {
            return;
        }
        // Power may be lost while it recovers from the last time.
        let again = self.setup.classes.contains(&Class::CrashInDisk)
            && self.slots[slot].damage.is_none()
            && !self.is_healed()
            && self.faults.chance(10);
        if again {
            let operation = self.slots[slot].disk.operations() + 1 + self.faults.below(10);
            self.slots[slot].disk.stop_at(operation);
        }
        let it = &mut self.slots[slot];
        it.life += 1;
        let machine = Machine { disk: &it.disk, views: &it.views, signer: &it.signer, id: it.id };
        let seed = self.seed.wrapping_mul(31).wrapping_add(it.life << 8 | slot as u64);
        let opened = Host::open(&machine, &self.setup, seed, it.clock.show(self.now));
        match opened {
            Ok((host, effects)) => {
                let (finalized, life) = (host.finalized(), it.life);
                it.host = Some(host);
                self.tell(|| format!("node {slot} starts (life {life}) at {finalized}"));
                if let Err((rule, what)) = self.checker.came_back(slot, &mut self.slots) {
                    return self.fail(Some(slot), rule, what);
                }
                if self.slots[slot].damage.is_some() {
                    let what = "it started on a log that is damaged".to_owned();
                    return self.fail(Some(slot), "disk", what);
                }
                self.perform_all(slot, effects);
                self.look(slot);
            }
            Err(refusal) => self.refused(slot, &refusal),
        }
    }

    fn refused(&mut self, slot: usize, refusal: &Refusal) {
        if self.slots[slot].disk.stopped() {
            self.count_fault(Class::CrashInDisk);
            *self.stats.boundaries.entry("inside recovery").or_default() += 1;
            self.tell(|| format!("node {slot} loses power while it starts"));
            return self.crash(slot, true, true);
        }
        let it = &mut self.slots[slot];
        it.disk.restart();
        let Some((path, offset, bit)) = it.damage.take() else {
            return self.fail(Some(slot), "disk", format!("it does not start: {}", refusal.0));
        };
        self.stats.refusals += 1;
        // The operator restores the file from a backup.
        self.slots[slot].disk.flip_bit(&path, offset, bit);
        self.tell(|| format!("node {slot} refuses to start: {}", refusal.0));
        self.queue.push(self.now + 2_000, Event::Boot { slot });
    }

    /// Ends a phase when its time has come, or fails.
    fn move_on(&mut self) {
        if self.scenario.adversary == Adversary::Third {
            // Nothing is promised but that the liars can be named, once honest nodes have met.
            let forked = self.checker.forked.is_some();
            if forked
                || self.checker.top() >= self.scenario.heights
                || self.now > self.faulty_most()
            {
                self.phase = Phase::Over;
            }
            return;
        }
        match self.phase {
            Phase::Faulty => {
                let top = self.checker.top();
                let enough = top * 100 >= self.scenario.heights * FAULTY_SHARE
                    && self.stats.fault_count() >= FAULTS_LEAST;
                let stalls =
                    self.setup.classes.contains(&Class::SlowJobs) && self.scenario.runs(Kind::Pbft);
                if enough && stalls {
                    self.stalled_until = self.now + STALL;
                    self.phase = Phase::Stalled;
                    self.tell(|| "nothing is executed for a long time".into());
                } else if enough || self.now > self.faulty_most() {
                    self.begin_healing();
                }
            }
            Phase::Stalled => {
                if self.now > self.stalled_until {
                    self.begin_healing();
                }
            }
            Phase::Healed { at, height } => {
                if self.least() > height {
                    self.stats.recovery_longest = self.stats.recovery_longest.max(self.now - at);
                    self.phase = Phase::Calm { since: self.now, height: self.least() };
                } else if self.now > at + self.setup.patience {
                    let state = self.describe();
                    let what = format!("no progress since healing at height {height}: {state}");
                    self.fail(None, "L1", what);
                }
            }
            Phase::Calm { since, height } => {
                let least = self.least();
                if least >= self.scenario.heights {
                    self.phase = Phase::Over;
                } else if least > height {
                    self.phase = Phase::Calm { since: self.now, height: least };
                } else if self.now > since + self.setup.patience {
                    let state = self.describe();
                    self.fail(None, "L3", format!("no more progress: {state}"));
                }
            }
            Phase::Over => {}
        }
    }

    fn faulty_most(&self) -> Moment {
        FAULTY_MOST * self.scenario.heights * self.setup.interval.max(1_000)
    }

    fn begin_healing(&mut self) {
        let height = self.checker.top();
        self.heal();
        self.phase = Phase::Healed { at: self.now, height };
        self.tell(|| format!("healed at height {height}"));
    }

    /// Whether faults are over.
    pub fn is_healed(&self) -> bool {
        self.phase != Phase::Faulty
    }

    /// The height that every honest node shows as final.
    fn least(&self) -> u64 {
        let honest = (0..self.slots.len())
            .filter(|slot| self.slots[*slot].liar.is_none() && !self.slots[*slot].stopped);
        honest.map(|slot| self.checker.shown(slot)).min().unwrap_or_default()
    }

    fn describe(&self) -> String {
        let line = |(slot, it): (usize, &Slot)| match &it.host {
            Some(host) => {
                let head = host.tree().height(&host.choice().head);
                let lies = if it.liar.is_some() { " liar" } else { "" };
                let (number, now) = (host.epoch().number, it.clock.show(self.now));
                let role = if host.epoch().has_member(&it.id) { "member" } else { "follower" };
                let due = host.deadline().map(|due| i128::from(due.0) - i128::from(now.0));
                let (finalized, state) = (host.finalized(), host.describe());
                format!(
                    "[{slot}{lies}: {finalized}/{head}, {role} of {number}, due in {due:?}: {state}]"
                )
            }
            None => format!("[{slot}: down]"),
        };
        self.slots.iter().enumerate().map(line).collect::<Vec<_>>().join(" ")
    }

    /// Something that must never happen has happened.
    pub fn fail(&mut self, slot: Option<usize>, rule: &'static str, what: String) {
        if self.violation.is_none() {
            let violation = Violation { at: self.now, slot, rule, what };
            self.tell(|| violation.to_string());
            self.violation = Some(violation);
        }
    }

    /// For whoever watches.
    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story(format!("{:>10.3} s  {}", self.now as f64 / 1_000.0, line()));
        }
    }

    /// A fault happened.
    pub fn count_fault(&mut self, class: Class) {
        *self.stats.faults.entry(class).or_default() += 1;
    }
}

impl Slot {
    fn new(
        number: usize,
        liar: Option<Conduct>,
        seed: u64,
        place: usize,
        clock: Clock,
        table: Arc<Mutex<Signatures>>,
    ) -> Self {
        Self {
            number,
            id: keys::node(number),
            liar,
            host: None,
            life: 0,
            disk: TestDisk::new(seed ^ (place as u64) << 32),
            views: MemoryViews::default(),
            clock,
            signer: Arc::new(HistorySigner::new(number, table)),
            armed: None,
            damage: None,
            ailing: false,
            slow_disk_until: 0,
            slow_jobs_until: 0,
            stopped: false,
        }
    }
}

fn first_bytes(hash: &[u8; 32]) -> u64 {
    u64::from_le_bytes(hash[..8].try_into().expect("a hash has 32 bytes"))
}
