//! Which worker packs what.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Hands out jobs: those that hold a whole matrix as long as there is room for one more, else the others.
pub(super) struct Queue {
    state: Mutex<State>,
    /// Room for a matrix has come free, or nothing more is handed out.
    changed: Condvar,
}

struct State {
    matrices: VecDeque<usize>,
    others: VecDeque<usize>,
    /// How many more matrices may be allocated.
    room: usize,
    /// Those that nobody uses. They stay, as an allocator may keep what it is given back beside what it then gives out.
    spare: Vec<Vec<f32>>,
    stopped: bool,
}

/// A job, and room for its matrix until it is dropped.
pub(super) struct Turn<'q> {
    pub(super) job: usize,
    /// What an earlier job has allocated, if one has.
    pub(super) matrix: Vec<f32>,
    queue: Option<&'q Queue>,
}

impl Queue {
    /// Of jobs that hold a matrix, `room` of them at a time, and of others; each in its order.
    pub(super) fn new(matrices: VecDeque<usize>, others: VecDeque<usize>, room: usize) -> Queue {
        let state = State { matrices, others, room, spare: Vec::new(), stopped: false };
        Queue { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The next job; waits where only matrices are left and there is no room. `None` when nothing is left to do.
    pub(super) fn next(&self) -> Option<Turn<'_>> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            if (state.room > 0 || !state.spare.is_empty())
                && let Some(job) = state.matrices.pop_front()
            {
                let matrix = state.spare.pop().unwrap_or_else(|| {
                    state.room -= 1;
                    Vec::new()
                });
                return Some(Turn { job, matrix, queue: Some(self) });
            }
            if let Some(job) = state.others.pop_front() {
                return Some(Turn { job, matrix: Vec::new(), queue: None });
            }
            if state.matrices.is_empty() {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Hands out nothing more.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(queue) = self.queue {
            queue.lock().spare.push(std::mem::take(&mut self.matrix));
            queue.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn matrices_come_first_and_no_more_than_there_is_room_for() {
        let queue = Queue::new([0, 1, 2].into(), [3, 4].into(), 2);
        let turns: Vec<_> = (0..4).map(|_| queue.next().unwrap()).collect();
        assert_eq!(turns.iter().map(|turn| turn.job).collect::<Vec<_>>(), [0, 1, 3, 4]);
        let waiting = thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.next().map(|turn| turn.job));
            drop(turns);
            waiting.join().unwrap()
        });
        assert_eq!(waiting, Some(2));
        assert!(queue.next().is_none());
    }

    #[test]
    fn a_queue_that_stops_wakes_those_that_wait() {
        let queue = Queue::new([0, 1].into(), [].into(), 1);
        let turn = queue.next().unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.next().is_none());
            queue.stop();
            assert!(waiting.join().unwrap());
        });
        drop(turn);
        assert!(queue.next().is_none());
    }
}
