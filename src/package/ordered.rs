//! Work on many threads whose results are taken in order, with a bound on what is done ahead.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What the threads share.
struct State<R> {
    /// The next job that nobody has begun.
    next: usize,
    /// The next job whose result is to be taken.
    taken: usize,
    /// Cost of the jobs that were begun and whose results were not taken.
    ahead: usize,
    /// Results that wait for their turn.
    done: BTreeMap<usize, R>,
    /// Whether a thread is taking results.
    taking: bool,
    /// How many threads wait for room. Where none does, none is woken: that takes a system call.
    waiting: usize,
    /// Whether nothing more is wanted.
    over: bool,
}

struct Shared<R> {
    state: Mutex<State<R>>,
    /// Results were taken: there is room for other jobs.
    room: Condvar,
}

impl<R> Shared<R> {
    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the waiting of all threads where one of them panics.
struct Alarm<'a, R>(&'a Shared<R>);

impl<R> Drop for Alarm<'_, R> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lock().over = true;
            self.0.room.notify_all();
        }
    }
}

/// Does `work` on all jobs, on so many threads, and gives each result to `take` in the order of the jobs.
///
/// `cost` of the jobs that are begun and not taken stays within `bound`, but for a single job that costs more. Who has
/// done the job whose turn it is takes it, and all that wait behind it: no thread is woken for a single result.
///
/// # Errors
///
/// Returns the first error of `take`; what was not begun by then is not done.
pub fn in_order<J: Sync, R: Send, W, E: Send>(
    threads: usize,
    bound: usize,
    jobs: &[J],
    cost: impl Fn(&J) -> usize + Sync,
    worker: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, &J) -> R + Sync,
    take: impl FnMut(&J, R) -> Result<(), E> + Send,
) -> Result<(), E> {
    let state = State { next: 0, taken: 0, ahead: 0, done: BTreeMap::new(), taking: false, waiting: 0, over: false };
    let shared = Shared { state: Mutex::new(state), room: Condvar::new() };
    let take = Mutex::new((take, Ok(())));
    let labour = || {
        let _alarm = Alarm(&shared);
        let mut worker = worker();
        loop {
            let number = {
                let mut state = shared.lock();
                loop {
                    let Some(job) = jobs.get(state.next).filter(|_| !state.over) else { return };
                    if state.ahead == 0 || state.ahead + cost(job) <= bound {
                        break;
                    }
                    state.waiting += 1;
                    state = shared.room.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.waiting -= 1;
                }
                let number = state.next;
                state.next += 1;
                state.ahead += cost(&jobs[number]);
                number
            };
            let result = work(&mut worker, &jobs[number]);
            let mut state = shared.lock();
            state.done.insert(number, result);
            if state.taking {
                continue;
            }
            state.taking = true;
            while let Some(result) = (!state.over).then(|| state.taken).and_then(|turn| state.done.remove(&turn)) {
                let job = &jobs[state.taken];
                drop(state);
                let mut taker = take.lock().unwrap_or_else(PoisonError::into_inner);
                let taken = taker.0(job, result);
                let failed = taken.is_err();
                if failed {
                    taker.1 = taken;
                }
                drop(taker);
                state = shared.lock();
                state.taken += 1;
                state.ahead -= cost(job);
                state.over |= failed;
                if state.waiting > 0 {
                    shared.room.notify_all();
                }
            }
            state.taking = false;
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads.min(jobs.len()) {
            scope.spawn(labour);
        }
    });
    take.into_inner().unwrap_or_else(PoisonError::into_inner).1
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
