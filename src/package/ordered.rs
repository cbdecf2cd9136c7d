//! Work on many threads whose results are taken in order, with a bound on what is done ahead.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What the threads share.
struct State<R> {
    /// The next job that nobody has begun.
    next: usize,
    /// Cost of the jobs that were begun and whose results were not taken.
    ahead: usize,
    /// Results that wait for their turn.
    done: BTreeMap<usize, R>,
    /// Whether nothing more is wanted.
    over: bool,
}

struct Shared<R> {
    state: Mutex<State<R>>,
    /// A result was taken: there is room for another job.
    room: Condvar,
    /// A job is done.
    ready: Condvar,
}

impl<R> Shared<R> {
    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the waiting of all threads, also where one of them panics.
struct Over<'a, R>(&'a Shared<R>);

impl<R> Drop for Over<'_, R> {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.room.notify_all();
        self.0.ready.notify_all();
    }
}

/// Does `work` on all jobs, on so many threads, and gives each result to `take` in the order of the jobs.
///
/// `cost` of the jobs that are begun and not taken stays within `bound`, but for a single job that costs more.
///
/// # Errors
///
/// Returns the first error of `take`; what was not begun by then is not done.
pub fn in_order<J: Sync, R: Send, W, E>(
    threads: usize,
    bound: usize,
    jobs: &[J],
    cost: impl Fn(&J) -> usize + Sync,
    worker: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, &J) -> R + Sync,
    mut take: impl FnMut(&J, R) -> Result<(), E>,
) -> Result<(), E> {
    let state = State { next: 0, ahead: 0, done: BTreeMap::new(), over: false };
    let shared = Shared { state: Mutex::new(state), room: Condvar::new(), ready: Condvar::new() };
    let labour = || {
        let failed = Over(&shared);
        let mut worker = worker();
        loop {
            let number = {
                let mut state = shared.lock();
                loop {
                    let Some(job) = jobs.get(state.next).filter(|_| !state.over) else {
                        std::mem::forget(failed);
                        return;
                    };
                    if state.ahead == 0 || state.ahead + cost(job) <= bound {
                        break;
                    }
                    state = shared.room.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                let number = state.next;
                state.next += 1;
                state.ahead += cost(&jobs[number]);
                number
            };
            let result = work(&mut worker, &jobs[number]);
            shared.lock().done.insert(number, result);
            shared.ready.notify_one();
        }
    };
    thread::scope(|scope| {
        let _over = Over(&shared);
        for _ in 0..threads.min(jobs.len()) {
            scope.spawn(labour);
        }
        for (number, job) in jobs.iter().enumerate() {
            let result = {
                let mut state = shared.lock();
                loop {
                    if let Some(result) = state.done.remove(&number) {
                        break result;
                    }
                    // A worker that panicked ends the scope with its panic.
                    if state.over {
                        return Ok(());
                    }
                    state = shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            };
            take(job, result)?;
            shared.lock().ahead -= cost(job);
            shared.room.notify_all();
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_come_in_order_and_no_more_is_ahead_than_allowed() {
        for threads in [1, 2, 7] {
            let jobs: Vec<usize> = (0..200).collect();
            let (ahead, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let mut taken = Vec::new();
            let work = |(): &mut (), job: &usize| {
                most.fetch_max(ahead.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::sleep(Duration::from_micros((job * 7919 % 13) as u64));
                job * 2
            };
            let take = |_: &usize, result: usize| {
                ahead.fetch_sub(1, Ordering::SeqCst);
                taken.push(result);
                Ok::<(), ()>(())
            };
            in_order(threads, 5, &jobs, |_| 1, || (), work, take).unwrap();
            assert_eq!(taken, jobs.iter().map(|job| job * 2).collect::<Vec<_>>());
            // One result may have been taken whose room was not given back yet.
            assert!(most.load(Ordering::SeqCst) <= 5, "{}", most.load(Ordering::SeqCst));
        }
    }

    #[test]
    fn a_job_beyond_the_bound_is_done_alone_and_an_error_ends_the_work() {
        let jobs = [1, 100, 1, 1];
        let mut taken = 0;
        let end = in_order(
            2,
            10,
            &jobs,
            |job| *job,
            || (),
            |(), job| *job,
            |_, job| {
                taken += 1;
                if job == 100 { Err("enough") } else { Ok(()) }
            },
        );
        assert_eq!((end, taken), (Err("enough"), 2));
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_of_a_worker_is_not_swallowed() {
        let _ = in_order(2, 10, &[1, 2, 3], |_| 1, || (), |(), job| assert!(*job != 2), |_, ()| Ok::<(), ()>(()));
    }
}
