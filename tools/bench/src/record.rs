/*!
What clients have done, by operation.

Each client writes into a place of its own, whose lock nobody else wants but once an interval; so recording costs an operation
some tens of nanoseconds, none of it within the time that is taken.
*/

use crate::latency::Latencies;
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What was done of one operation.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// From its begin to its end.
    pub(crate) service: Latencies,
    /// From when it should have begun to its end; nothing in a closed loop, where that is the same.
    pub(crate) response: Latencies,
    /// Rows that were read or written.
    pub(crate) rows: u64,
    /// How often it was begun anew because another transaction had been faster.
    pub(crate) retries: u64,
    /// How often it ended with an error.
    pub(crate) errors: u64,
    /// What was read from the device for it, where that was asked.
    pub(crate) device: Option<DeviceReads>,
}

/// Bytes read from devices for operations of a cold run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DeviceReads {
    /// For all operations together.
    pub(crate) bytes: u64,
    /// For the one that read least.
    pub(crate) bytes_min: u64,
    /// For the one that read most.
    pub(crate) bytes_max: u64,
}

impl DeviceReads {
    /// Of one operation.
    pub(crate) fn one(bytes: u64) -> DeviceReads {
        DeviceReads { bytes, bytes_min: bytes, bytes_max: bytes }
    }

    fn and(self, other: DeviceReads) -> DeviceReads {
        DeviceReads {
            bytes: self.bytes + other.bytes,
            bytes_min: self.bytes_min.min(other.bytes_min),
            bytes_max: self.bytes_max.max(other.bytes_max),
        }
    }
}

impl Tally {
    fn new() -> Tally {
        Tally { service: Latencies::new(), response: Latencies::new(), rows: 0, retries: 0, errors: 0, device: None }
    }

    /// How often it was done.
    pub(crate) fn count(&self) -> u64 {
        self.service.len()
    }

    /// Adds what another one has.
    pub(crate) fn add(&mut self, other: &Tally) {
        self.service.add(&other.service);
        self.response.add(&other.response);
        self.rows += other.rows;
        self.retries += other.retries;
        self.errors += other.errors;
        self.add_device(other.device);
    }

    fn add_device(&mut self, other: Option<DeviceReads>) {
        self.device = match (self.device, other) {
            (Some(a), Some(b)) => Some(a.and(b)),
            (a, b) => a.or(b),
        };
    }

    fn clear(&mut self) {
        self.service.clear();
        self.response.clear();
        (self.rows, self.retries, self.errors) = (0, 0, 0);
        self.device = None;
    }
}

/// One operation that was done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    /// From its begin to its end.
    pub(crate) service: Duration,
    /// From when it should have begun to its end, where that is another time.
    pub(crate) response: Option<Duration>,
    /// Rows that it read or wrote.
    pub(crate) rows: u64,
    /// How often it was begun anew.
    pub(crate) retries: u64,
    /// Bytes that were read from the device for it, where that was asked.
    pub(crate) device: Option<u64>,
}

/// What was done in some time.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    /// By operation.
    pub(crate) operations: Vec<Tally>,
    /// Walks with the yardstick.
    pub(crate) yardstick: Latencies,
}

impl Recorded {
    /// Nothing yet, of so many operations.
    pub(crate) fn new(operations: usize) -> Recorded {
        Recorded { operations: tallies(operations), yardstick: Latencies::new() }
    }

    /// Adds what another one has.
    pub(crate) fn add(&mut self, other: &Recorded) {
        self.operations.iter_mut().zip(&other.operations).for_each(|(sum, tally)| sum.add(tally));
        self.yardstick.add(&other.yardstick);
    }

    fn clear(&mut self) {
        self.operations.iter_mut().for_each(Tally::clear);
        self.yardstick.clear();
    }
}

/// A place for each client.
#[derive(Debug)]
pub(crate) struct Recorder {
    operations: usize,
    clients: Vec<Mutex<Recorded>>,
}

impl Recorder {
    /// For so many clients and operations.
    pub(crate) fn new(clients: usize, operations: usize) -> Recorder {
        let client = || Mutex::new(Recorded::new(operations));
        Recorder { operations, clients: std::iter::repeat_with(client).take(clients).collect() }
    }

    /// Counts an operation of a client.
    pub(crate) fn done(&self, client: usize, operation: usize, done: Done) {
        self.change(client, operation, |tally| {
            tally.service.record(done.service);
            if let Some(response) = done.response {
                tally.response.record(response);
            }
            tally.rows += done.rows;
            tally.retries += done.retries;
            tally.add_device(done.device.map(DeviceReads::one));
        });
    }

    /// Counts an error of a client. It has no time: it would make the others look better or worse than they are.
    pub(crate) fn error(&self, client: usize, operation: usize) {
        self.change(client, operation, |tally| tally.errors += 1);
    }

    fn change(&self, client: usize, operation: usize, change: impl FnOnce(&mut Tally)) {
        if let Some(place) = self.clients.get(client)
            && let Some(tally) = held(place).operations.get_mut(operation)
        {
            change(tally);
        }
    }

    /// A client has taken a walk with the yardstick.
    pub(crate) fn walked(&self, client: usize, time: Duration) {
        if let Some(place) = self.clients.get(client) {
            held(place).yardstick.record(time);
        }
    }

    /// What all clients have done since this was last asked.
    pub(crate) fn take(&self) -> Recorded {
        let mut all = Recorded::new(self.operations);
        for place in &self.clients {
            let mut done = held(place);
            all.add(&done);
            done.clear();
        }
        all
    }
}

/// Nothing yet, for so many operations.
pub(crate) fn tallies(operations: usize) -> Vec<Tally> {
    std::iter::repeat_with(Tally::new).take(operations).collect()
}

fn held(place: &Mutex<Recorded>) -> MutexGuard<'_, Recorded> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}
