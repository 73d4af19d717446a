//! What waits to be written to one lane of one peer.

use crate::event::Lane;
use crate::wire::Kind;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use tokio::sync::Notify;

/// What a queued frame costs beside its payload: memory of the queue.
const FRAME_COST: usize = 64;

/// A frame to be written.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub kind: Kind,
    pub payload: Bytes,
}

impl Frame {
    fn cost(&self) -> usize {
        self.payload.len() + FRAME_COST
    }
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    Queued,
    /// Queued, and so many older ones dropped.
    Displaced(u64),
    Dropped,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Frame>,
    cost: usize,
    /// Whether the writer is still busy with what it took.
    writing: bool,
    /// Whether nothing more will come.
    closed: bool,
}

/// A queue bounded in bytes, frames' own cost included, and so in frames too.
#[derive(Debug)]
pub(crate) struct Outbox {
    lane: Lane,
    cost_max: usize,
    queue: Mutex<Queue>,
    filled: Notify,
}

impl Outbox {
    pub(crate) fn new(lane: Lane, cost_max: usize) -> Self {
        Self { lane, cost_max, queue: Mutex::new(Queue::default()), filled: Notify::new() }
    }

    /// Queues a frame. A full queue of votes drops its oldest, one of sync messages the new one:
    /// see [`Lane`].
    pub(crate) fn push(&self, frame: Frame) -> Pushed {
        let mut queue = self.queue.lock();
        let cost = frame.cost();
        if queue.closed
            || cost > self.cost_max
            || (self.lane == Lane::Sync && queue.cost + cost > self.cost_max)
        {
            return Pushed::Dropped;
        }
        let mut displaced = 0;
        while queue.cost + cost > self.cost_max {
            let oldest = queue.frames.pop_front().expect("what has a cost holds a frame");
            queue.cost -= oldest.cost();
            displaced += 1;
        }
        queue.cost += cost;
        queue.frames.push_back(frame);
        drop(queue);
        self.filled.notify_one();
        if displaced == 0 { Pushed::Queued } else { Pushed::Displaced(displaced) }
    }

    /// Whether a payload of so many bytes would displace nothing and not be dropped.
    pub(crate) fn has_room(&self, payload: usize) -> bool {
        self.queue.lock().cost + payload + FRAME_COST <= self.cost_max
    }

    /// Waits for frames, and takes some: as many as together have `bytes` of payload, at least one.
    /// Takes none when the queue is empty and closed.
    pub(crate) async fn take(&self, bytes: usize) -> Vec<Frame> {
        loop {
            let filled = self.filled.notified();
            let batch = self.take_now(bytes);
            if !batch.is_empty() || self.queue.lock().closed {
                return batch;
            }
            filled.await;
        }
    }

    /// Ends the queue: what is in it is still written, what comes is dropped.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.filled.notify_one();
    }

    fn take_now(&self, bytes: usize) -> Vec<Frame> {
        let mut queue = self.queue.lock();
        let (mut batch, mut size) = (Vec::new(), 0);
        while let Some(frame) = queue.frames.pop_front() {
            queue.cost -= frame.cost();
            size += frame.payload.len();
            batch.push(frame);
            if size >= bytes {
                break;
            }
        }
        queue.writing = !batch.is_empty();
        batch
    }

    /// Whether everything that was pushed has been written.
    pub(crate) fn is_idle(&self) -> bool {
        let queue = self.queue.lock();
        queue.frames.is_empty() && !queue.writing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(byte: u8) -> Frame {
        Frame { kind: Kind::Message, payload: Bytes::from(vec![byte; 100]) }
    }

    fn first_bytes(outbox: &Outbox) -> Vec<u8> {
        outbox.take_now(usize::MAX).iter().map(|frame| frame.payload[0]).collect()
    }

    #[test]
    fn full_queue_of_votes_drops_the_oldest() {
        let outbox = Outbox::new(Lane::Votes, 3 * (100 + FRAME_COST));
        for byte in 0..3 {
            assert_eq!(outbox.push(frame(byte)), Pushed::Queued);
        }
        assert_eq!(outbox.push(frame(3)), Pushed::Displaced(1));
        assert_eq!(first_bytes(&outbox), [1, 2, 3]);
        assert_eq!(outbox.push(frame(4)), Pushed::Queued, "what was taken is no longer counted");
    }

    #[test]
    fn full_queue_of_sync_drops_the_newest() {
        let outbox = Outbox::new(Lane::Sync, 3 * (100 + FRAME_COST));
        for byte in 0..3 {
            assert_eq!(outbox.push(frame(byte)), Pushed::Queued);
        }
        assert_eq!(outbox.push(frame(3)), Pushed::Dropped);
        assert_eq!(first_bytes(&outbox), [0, 1, 2]);
    }

    #[test]
    fn frame_that_never_fits_displaces_nothing() {
        let outbox = Outbox::new(Lane::Votes, 100 + FRAME_COST);
        assert_eq!(outbox.push(frame(1)), Pushed::Queued);
        let large = Frame { kind: Kind::Message, payload: Bytes::from(vec![0; 200]) };
        assert_eq!(outbox.push(large), Pushed::Dropped);
        assert_eq!(first_bytes(&outbox), [1]);
    }
}
