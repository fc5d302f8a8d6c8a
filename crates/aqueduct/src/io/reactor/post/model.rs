//! The exhaustive check of the wake-ups: every order of the steps of receivers, senders and the
//! ringing threads, against a model of one queue and the epoll instances of the processes at it.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use loom::future::block_on;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::super::bell::{Over, Waiter};
use super::{Kernel, Post};

/// A queue and the list of those that are registered for it.
struct Queue {
    state: Mutex<State>,
    event: Condvar,
}

#[derive(Default)]
struct State {
    messages: usize,
    list: Vec<Registered>,
    stopped: bool,
    ticks: u64,
}

struct Registered {
    process: usize,
    exclusive: bool,
    armed: bool,
    /// In the ready list of its epoll instance.
    ready: bool,
}

/// A process at the queue.
struct Process {
    number: usize,
    queue: Arc<Queue>,
    post: Post,
    over: Over,
}

impl Queue {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::default()),
            event: Condvar::new(),
        })
    }

    /// A change of state wakes all that are registered ordinarily, and one of the others.
    fn send(&self) {
        let mut state = self.state.lock().unwrap();
        state.messages += 1;
        let mut one = false;
        for it in state.list.iter_mut().filter(|it| it.armed) {
            if !it.exclusive || !std::mem::replace(&mut one, true) {
                it.ready = true;
            }
        }
        drop(state);
        self.event.notify_all();
    }

    fn try_recv(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        let some = state.messages > 0;
        state.messages -= usize::from(some);
        some
    }

    fn tick(&self) {
        self.state.lock().unwrap().ticks += 2;
        self.event.notify_all();
    }

    fn stop(&self) {
        self.state.lock().unwrap().stopped = true;
        self.event.notify_all();
    }
}

impl Process {
    /// One that waits ordinarily, or exclusively.
    fn new(queue: &Arc<Queue>, number: usize, crowded: bool) -> Arc<Self> {
        let post = Post::new();
        if crowded {
            post.meets_others();
        }
        Arc::new(Self {
            number,
            queue: Arc::clone(queue),
            post,
            over: Over::new(),
        })
    }

    fn register(&self, exclusive: bool) {
        let mut state = self.queue.state.lock().unwrap();
        let process = self.number;
        state.list.retain(|it| it.process != process);
        let registered = Registered {
            process,
            exclusive,
            armed: true,
            // It is looked at when it is added.
            ready: state.messages > 0,
        };
        state.list.push(registered);
        drop(state);
        self.queue.event.notify_all();
    }

    /// The thread: `epoll_wait`, ring, again.
    fn react(&self) {
        let mut ticks = 0;
        loop {
            let mut state = self.queue.state.lock().unwrap();
            let fired = loop {
                if state.stopped || state.ticks > ticks {
                    break false;
                }
                let some = state.messages > 0;
                let own = state.list.iter_mut().find(|it| it.process == self.number);
                if let Some(it) = own
                    && std::mem::take(&mut it.ready)
                    && some
                {
                    it.armed = it.exclusive;
                    break true;
                }
                state = self.queue.event.wait(state).unwrap();
            };
            if state.stopped {
                break;
            }
            let now = state.ticks;
            drop(state);
            if fired {
                self.post.fired(self).unwrap();
            } else {
                ticks = now;
                self.post.check(self).unwrap();
            }
        }
        self.over.set();
        self.post.give_up();
    }

    /// As `Side::run` does; returns whether a message arrived before the end.
    async fn recv(&self, waiter: Waiter) -> bool {
        if self.queue.try_recv() {
            return true;
        }
        loop {
            self.post.wait(waiter, &self.over, self).await.unwrap();
            let done = self.queue.try_recv();
            self.post.attempted(done, self);
            if done || self.over.is_set() {
                return done;
            }
        }
    }
}

fn reactor(process: &Arc<Process>) -> thread::JoinHandle<()> {
    let process = Arc::clone(process);
    thread::spawn(move || process.react())
}

fn receiver(process: &Arc<Process>, waiter: Waiter) -> thread::JoinHandle<()> {
    let process = Arc::clone(process);
    thread::spawn(move || assert!(block_on(process.recv(waiter))))
}

impl Kernel for Process {
    fn arm_once(&self, _known: bool) -> io::Result<()> {
        self.register(false);
        Ok(())
    }

    fn arm_exclusively(&self) -> io::Result<()> {
        self.register(true);
        Ok(())
    }

    fn remove(&self) -> io::Result<()> {
        let mut state = self.queue.state.lock().unwrap();
        state.list.retain(|it| it.process != self.number);
        Ok(())
    }

    fn is_ready(&self) -> io::Result<bool> {
        Ok(self.queue.state.lock().unwrap().messages > 0)
    }

    fn tick(&self) -> u64 {
        self.queue.state.lock().unwrap().ticks
    }

    fn count_ticks(&self) {}
}

/// Runs `model` in every order with up to two voluntary switches, or as many as
/// `LOOM_MAX_PREEMPTIONS` says.
fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(2);
    builder.check(model);
}

fn served(first: Waiter, second: Waiter) {
    for crowded in [false, true] {
        explore(move || {
            let queue = Queue::new();
            let process = Process::new(&queue, 0, crowded);
            let receivers = [first, second].map(|waiter| receiver(&process, waiter));
            let thread = reactor(&process);
            queue.send();
            queue.send();
            receivers.into_iter().for_each(|it| it.join().unwrap());
            queue.stop();
            thread.join().unwrap();
        });
    }
}

/// One event may stand for both messages: without the baton one of them would sleep for ever.
#[test]
fn two_tasks_are_both_served() {
    served(Waiter::Once, Waiter::Once);
}

#[test]
fn a_task_and_a_stream_are_both_served() {
    served(Waiter::Once, Waiter::Always);
}

#[test]
fn two_streams_are_both_served() {
    served(Waiter::Always, Waiter::Always);
}

/// Polls a wait once and drops it, rung or not.
fn begin_and_drop(process: &Process) -> bool {
    block_on(async {
        let mut recv = pin!(process.recv(Waiter::Once));
        let poll = |cx: &mut Context<'_>| Poll::Ready(recv.as_mut().poll(cx));
        std::future::poll_fn(poll).await.is_ready()
    })
}

/// A wait that was begun and dropped, rung or not, leaves the message to the other one.
#[test]
fn a_cancelled_wait_passes_its_wake_up_on() {
    for crowded in [false, true] {
        explore(move || {
            let queue = Queue::new();
            let process = Process::new(&queue, 0, crowded);
            let other = receiver(&process, Waiter::Once);
            let thread = reactor(&process);
            let cancelled = {
                let process = Arc::clone(&process);
                thread::spawn(move || {
                    // It was faster: then there is another message for the other one.
                    if begin_and_drop(&process) {
                        process.queue.send();
                    }
                })
            };
            queue.send();
            cancelled.join().unwrap();
            other.join().unwrap();
            queue.stop();
            thread.join().unwrap();
        });
    }
}

/// A wait that was dropped in one process uses up no wake-up of another one's any more.
#[test]
fn a_dropped_exclusive_wait_is_not_woken_for_another() {
    explore(|| {
        let queue = Queue::new();
        let gone = Process::new(&queue, 0, true);
        assert!(!begin_and_drop(&gone));
        let process = Process::new(&queue, 1, true);
        let receiver = receiver(&process, Waiter::Once);
        let thread = reactor(&process);
        queue.send();
        receiver.join().unwrap();
        queue.stop();
        thread.join().unwrap();
    });
}

/// A process that is killed with the wake-up it was given: the next tick wakes the other one.
#[test]
fn a_wake_up_that_is_lost_with_its_process_is_made_up_for() {
    explore(|| {
        let queue = Queue::new();
        // It is first in the list and has no thread: it never uses anything.
        Process::new(&queue, 0, true).register(true);
        let process = Process::new(&queue, 1, true);
        let receiver = receiver(&process, Waiter::Once);
        let thread = reactor(&process);
        queue.send();
        // A wait that begins after this looks itself.
        queue.tick();
        receiver.join().unwrap();
        queue.stop();
        thread.join().unwrap();
    });
}

/// A thread that ends, before, while or after they begin to wait, leaves nobody asleep.
#[test]
fn the_end_of_the_thread_ends_all_waits() {
    for crowded in [false, true] {
        explore(move || {
            let queue = Queue::new();
            let process = Process::new(&queue, 0, crowded);
            let receivers = [Waiter::Once, Waiter::Always].map(|waiter| {
                let process = Arc::clone(&process);
                thread::spawn(move || assert!(!block_on(process.recv(waiter))))
            });
            let thread = reactor(&process);
            queue.stop();
            thread.join().unwrap();
            receivers.into_iter().for_each(|it| it.join().unwrap());
        });
    }
}
