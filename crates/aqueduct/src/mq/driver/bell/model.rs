//! The exhaustive check of the wake-ups: every order of the steps of receivers, senders and the
//! ringing thread, against a model of one queue in one epoll instance.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use loom::future::block_on;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::{Bell, Over, Waiter};

/// A queue and its epoll state: one-shot, and level-triggered when it is armed.
struct Kernel {
    state: Mutex<State>,
    event: Condvar,
}

#[derive(Default)]
struct State {
    messages: usize,
    armed: bool,
    stopped: bool,
}

struct World {
    kernel: Kernel,
    bell: Bell,
    over: Over,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            kernel: Kernel {
                state: Mutex::new(State::default()),
                event: Condvar::new(),
            },
            bell: Bell::new(),
            over: Over::new(),
        })
    }

    fn send(&self) {
        self.kernel.state.lock().unwrap().messages += 1;
        self.kernel.event.notify_all();
    }

    fn try_recv(&self) -> bool {
        let mut state = self.kernel.state.lock().unwrap();
        let some = state.messages > 0;
        state.messages -= usize::from(some);
        some
    }

    fn arm(&self) -> io::Result<()> {
        self.kernel.state.lock().unwrap().armed = true;
        self.kernel.event.notify_all();
        Ok(())
    }

    /// The pool's thread: `epoll_wait`, ring, again.
    fn react(&self) {
        loop {
            let mut state = self.kernel.state.lock().unwrap();
            while !state.stopped && !(state.armed && state.messages > 0) {
                state = self.kernel.event.wait(state).unwrap();
            }
            if state.stopped {
                break;
            }
            state.armed = false;
            drop(state);
            self.bell.ring();
        }
        self.over.set();
        self.bell.ring_all();
    }

    fn stop(&self) {
        self.kernel.state.lock().unwrap().stopped = true;
        self.kernel.event.notify_all();
    }

    /// As `Side::run` does; returns whether a message arrived before the end.
    async fn recv(&self, waiter: Waiter) -> bool {
        if self.try_recv() {
            return true;
        }
        loop {
            let waited = self.bell.wait(waiter, &self.over, || self.arm());
            waited.await.unwrap();
            if self.try_recv() {
                self.bell.ring_next();
                return true;
            }
            if self.over.is_set() {
                return false;
            }
        }
    }
}

/// Runs `model` in every order with up to two voluntary switches, or as many as
/// `LOOM_MAX_PREEMPTIONS` says.
fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(2);
    builder.check(model);
}

fn served(first: Waiter, second: Waiter) {
    explore(move || {
        let world = World::new();
        let receivers = [first, second].map(|waiter| {
            let world = Arc::clone(&world);
            thread::spawn(move || assert!(block_on(world.recv(waiter))))
        });
        let reactor = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.react())
        };
        world.send();
        world.send();
        receivers.into_iter().for_each(|it| it.join().unwrap());
        world.stop();
        reactor.join().unwrap();
    });
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

/// A wait that was begun and dropped, rung or not, leaves the message to the other one.
#[test]
fn a_cancelled_wait_passes_its_wake_up_on() {
    explore(|| {
        let world = World::new();
        let other = {
            let world = Arc::clone(&world);
            thread::spawn(move || assert!(block_on(world.recv(Waiter::Once))))
        };
        let reactor = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.react())
        };
        let cancelled = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let got = block_on(async {
                    let mut recv = pin!(world.recv(Waiter::Once));
                    let poll = |cx: &mut Context<'_>| Poll::Ready(recv.as_mut().poll(cx));
                    std::future::poll_fn(poll).await
                });
                // It was faster: then there is another message for the other one.
                if got.is_ready() {
                    world.send();
                }
            })
        };
        world.send();
        cancelled.join().unwrap();
        other.join().unwrap();
        world.stop();
        reactor.join().unwrap();
    });
}

/// A thread that ends, before, while or after they begin to wait, leaves nobody asleep.
#[test]
fn the_end_of_the_thread_ends_all_waits() {
    explore(|| {
        let world = World::new();
        let receivers = [Waiter::Once, Waiter::Always].map(|waiter| {
            let world = Arc::clone(&world);
            thread::spawn(move || assert!(!block_on(world.recv(waiter))))
        });
        let reactor = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.react())
        };
        world.stop();
        reactor.join().unwrap();
        receivers.into_iter().for_each(|it| it.join().unwrap());
    });
}
