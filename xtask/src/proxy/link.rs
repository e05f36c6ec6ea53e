//! One client's connection and the one to the broker that belongs to it.
//!
//! The connection to the broker outlives the client's until every frame that is held for it has been delivered and
//! answered: that is how a copy arrives late.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::fault::{Fault, Injected, Trouble, Until};
use super::frame::{self, Request, api};
use super::{Shared, lock};

/// How long the broker's answers to what a gone client had asked are waited for.
const LINGER: Duration = Duration::from_secs(20);
/// How long an ambushed request waits for the answer to the late copy.
const ANSWER: Duration = Duration::from_secs(5);

/// A late copy that waits for another request to come.
pub(super) struct Ambush {
    link: Arc<Link>,
    copy: Vec<u8>,
    request: Request,
    number: usize,
    next: i16,
    held: Duration,
    /// The transaction that it belongs to has ended: what comes now is of a later one.
    armed: bool,
}

/// A request that the broker has not answered.
struct Asked {
    request: Request,
    /// The number of the fault, where it concerns the answer.
    number: Option<usize>,
    answer: Answer,
}

#[derive(Clone, Copy)]
enum Answer {
    Pass,
    Swallow,
    Trouble(Trouble),
}

#[derive(Default)]
struct State {
    asked: HashMap<i32, Asked>,
    /// Frames that are to be delivered yet.
    held: usize,
    /// Correlation ids for copies.
    copies: i32,
}

pub(super) struct Link {
    shared: Arc<Shared>,
    client: Mutex<TcpStream>,
    /// The same, for cutting while somebody writes.
    client_end: TcpStream,
    broker: Mutex<TcpStream>,
    broker_end: TcpStream,
    state: Mutex<State>,
    changed: Condvar,
}

impl Link {
    pub(super) fn open(shared: &Arc<Shared>, client: TcpStream) -> io::Result<()> {
        let broker = TcpStream::connect(shared.upstream)?;
        client.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        let (mut from_client, mut from_broker) = (client.try_clone()?, broker.try_clone()?);
        let link = Arc::new(Self {
            shared: shared.clone(),
            client_end: client.try_clone()?,
            client: Mutex::new(client),
            broker_end: broker.try_clone()?,
            broker: Mutex::new(broker),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        {
            let mut links = lock(&shared.links);
            links.retain(|link| link.strong_count() > 0);
            links.push(Arc::downgrade(&link));
        }
        let up = link.clone();
        spawn(move || {
            while let Ok(Some(frame)) = frame::read(&mut from_client) {
                if up.request(frame).is_err() {
                    break;
                }
            }
            up.finish();
        })?;
        spawn(move || {
            while let Ok(Some(frame)) = frame::read(&mut from_broker) {
                // that the client is gone does not matter: the broker's answers are still counted
                link.answer(frame).ok();
            }
            link.cut();
            link.changed.notify_all();
        })
    }

    /// Ends the client's side.
    pub(super) fn cut(&self) {
        self.client_end.shutdown(Shutdown::Both).ok();
    }

    /// When the client is gone: lets the broker finish.
    fn finish(&self) {
        self.cut();
        let deadline = Instant::now() + LINGER;
        let mut state = lock(&self.state);
        while (state.held > 0 || !state.asked.is_empty())
            && Instant::now() < deadline
            && !self.shared.over.load(Ordering::Acquire)
        {
            let woken = self.changed.wait_timeout(state, Duration::from_millis(200));
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        self.broker_end.shutdown(Shutdown::Both).ok();
    }

    fn request(self: &Arc<Self>, mut copy: Vec<u8>) -> io::Result<()> {
        let Some(request) = Request::parse(&copy) else {
            return frame::write(&mut *lock(&self.broker), &copy);
        };
        self.spring(&request);
        let fault = lock(&self.shared.decide).decide(&request);
        let Some(fault) = fault else {
            return self.ask(&copy, request, None, Answer::Pass);
        };
        let number = {
            let mut injected = lock(&self.shared.injected);
            injected.push(Injected::new(&request, fault));
            injected.len() - 1
        };
        match fault {
            Fault::Answer(trouble) => self.ask(&copy, request, None, Answer::Trouble(trouble)),
            Fault::Request(Trouble::Drop { cut }) => {
                if cut {
                    self.cut();
                }
                Ok(())
            }
            Fault::Request(Trouble::Delay { by, rest: true }) => {
                self.shared.wait(by);
                self.ask(&copy, request, Some(number), Answer::Pass)
            }
            Fault::Request(Trouble::Delay { by, rest: false }) => {
                self.hold(by, copy, request, number, Answer::Pass)
            }
            Fault::Twice => {
                self.ask(&copy, request.clone(), None, Answer::Pass)?;
                let again = self.renumber(&mut copy, request);
                self.ask(&copy, again, Some(number), Answer::Swallow)
            }
            Fault::Late(until) => {
                match until {
                    Until::Elapsed(by) => self.hold(by, copy, request, number, Answer::Swallow)?,
                    Until::Next { api, held } => {
                        lock(&self.state).held += 1;
                        lock(&self.shared.ambushes).push(Ambush {
                            link: self.clone(),
                            copy,
                            request,
                            number,
                            next: api,
                            held,
                            armed: false,
                        });
                    }
                }
                self.cut();
                Ok(())
            }
        }
    }

    /// Delivers the late copies that have waited for this request before it goes on itself.
    fn spring(&self, request: &Request) {
        let sprung: Vec<Ambush> = {
            let mut ambushes = lock(&self.shared.ambushes);
            let here = |ambush: &mut Ambush| {
                ambush.armed
                    && ambush.next == request.api
                    && ambush.request.transactional_id == request.transactional_id
            };
            ambushes.extract_if(.., here).collect()
        };
        for ambush in sprung {
            let link = &ambush.link;
            link.deliver(ambush.copy, ambush.request, ambush.number, Answer::Swallow);
            let deadline = Instant::now() + ANSWER;
            let mut state = lock(&link.state);
            while !state.asked.is_empty() && Instant::now() < deadline {
                let woken = link.changed.wait_timeout(state, Duration::from_millis(200));
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
            }
            drop(state);
            self.shared.wait(ambush.held);
        }
    }

    /// A copy needs a correlation id that the client does not use.
    fn renumber(&self, copy: &mut [u8], request: Request) -> Request {
        let mut state = lock(&self.state);
        state.copies += 1;
        let correlation = i32::MIN + state.copies;
        frame::correlate(copy, correlation);
        Request {
            correlation,
            ..request
        }
    }

    fn ask(
        &self,
        frame: &[u8],
        request: Request,
        number: Option<usize>,
        answer: Answer,
    ) -> io::Result<()> {
        let asked = Asked {
            request,
            number,
            answer,
        };
        let correlation = asked.request.correlation;
        // librdkafka expects no answer to some, and those are few: they only make `finish` linger
        lock(&self.state).asked.insert(correlation, asked);
        frame::write(&mut *lock(&self.broker), frame)
    }

    fn hold(
        self: &Arc<Self>,
        by: Duration,
        copy: Vec<u8>,
        request: Request,
        number: usize,
        answer: Answer,
    ) -> io::Result<()> {
        lock(&self.state).held += 1;
        let link = self.clone();
        spawn(move || {
            link.shared.wait(by);
            link.deliver(copy, request, number, answer);
        })
    }

    fn deliver(&self, copy: Vec<u8>, request: Request, number: usize, answer: Answer) {
        // a broker that is gone has no answer
        self.ask(&copy, request, Some(number), answer).ok();
        lock(&self.state).held -= 1;
        self.changed.notify_all();
    }

    fn answer(self: &Arc<Self>, frame: Vec<u8>) -> io::Result<()> {
        let asked = frame::correlation(&frame)
            .and_then(|correlation| lock(&self.state).asked.remove(&correlation));
        self.changed.notify_all();
        let Some(asked) = asked else {
            return self.pass(&frame);
        };
        let error = frame::error(&asked.request, &frame);
        if let Some(number) = asked.number {
            self.shared.answered(number, error);
        }
        if asked.request.api == api::END_TXN && error == Some(0) {
            for ambush in lock(&self.shared.ambushes).iter_mut() {
                ambush.armed |= ambush.request.transactional_id == asked.request.transactional_id;
            }
        }
        match asked.answer {
            Answer::Pass => self.pass(&frame),
            Answer::Swallow => Ok(()),
            Answer::Trouble(Trouble::Drop { cut }) => {
                if cut {
                    self.cut();
                }
                Ok(())
            }
            Answer::Trouble(Trouble::Delay { by, rest: true }) => {
                self.shared.wait(by);
                self.pass(&frame)
            }
            Answer::Trouble(Trouble::Delay { by, rest: false }) => {
                let link = self.clone();
                spawn(move || {
                    link.shared.wait(by);
                    link.pass(&frame).ok();
                })
            }
        }
    }

    fn pass(&self, frame: &[u8]) -> io::Result<()> {
        frame::write(&mut *lock(&self.client), frame)
    }
}

fn spawn(run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let builder = std::thread::Builder::new().name("proxy-link".into());
    builder.spawn(run).map(drop)
}
