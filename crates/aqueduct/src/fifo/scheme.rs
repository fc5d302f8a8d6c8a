//! `fifo:/path`: the address of a FIFO, and how it is opened.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::followed::{Followed, open_receiver};
use super::open::{OpenOptions, ReaderGone};
use super::receiver::Receiver;
use super::shared::SharedSender;
use crate::address::{
    AddressProblem, Awaited, Capabilities, Direction, EndOfStream, PIPE_BUF, Printer, Query,
    Sharing, path,
};
use crate::connect::group::GROUP_MODE;
use crate::connect::{
    Asked, End, Half, Mechanism, MessageReceiver, MessageSender, OpenError, OpenErrorKind, Opening,
    Place, Rest, Scheme,
};
use crate::frame::Pace;

pub(crate) static SCHEME: Scheme = Scheme {
    name: "fifo",
    form: "fifo:/path",
    summary: "named FIFO",
    options: &["create", "frame", "group", "mode", "persist"],
    synonyms: &["pipe", "named-pipe", "file"],
    parse: |rest, query| Ok(Arc::new(Fifo::parse(rest, query)?)),
};

/// A named FIFO. A relative path is resolved at the time of opening.
#[derive(Clone, Debug)]
struct Fifo {
    path: PathBuf,
    mode: Option<u32>,
    create: Option<bool>,
    group: Option<String>,
    persist: Option<bool>,
}

impl Fifo {
    fn parse(rest: &[u8], query: &Query) -> Result<Self, AddressProblem> {
        Ok(Self {
            path: path::decode(rest)?,
            mode: query.mode()?,
            create: query.boolean("create")?,
            group: query.group()?,
            persist: query.boolean("persist")?,
        })
    }

    fn options(&self, asked: &Asked<'_>) -> OpenOptions {
        let mut options = OpenOptions::new();
        options
            .create(self.create.unwrap_or(asked.options.create))
            .wait(asked.options.wait)
            .watch_name(asked.options.watch_name)
            .sole_reader(asked.options.sole_reader)
            .allow_foreign_owner(asked.options.allow_foreign_owner);
        if let Some(group) = &self.group {
            options.mode(GROUP_MODE).group(group);
        }
        if let Some(mode) = self.mode {
            options.mode(mode);
        }
        options
    }
}

impl Mechanism for Fifo {
    fn print(&self, printer: &mut Printer) {
        printer.rest(self.path.as_os_str(), b"");
        printer.option("create", self.create);
        printer.group(self.group.as_deref());
        printer.mode(self.mode);
        printer.option("persist", self.persist);
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            direction: Direction::OneWay,
            end_of_stream: match self.persist {
                Some(true) => EndOfStream::Never,
                _ => EndOfStream::LastWriter,
            },
            readers: Sharing::One,
            writers: Sharing::UpTo(PIPE_BUF),
            awaits: Awaited::Reader,
            listens: Some(false),
            outlives_processes: true,
            ..Capabilities::BYTE_STREAM
        }
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn place(&self, _: End) -> Option<Place> {
        Some(Place::path(&self.path))
    }

    fn remove<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, ()> {
        Box::pin(async move {
            let failed = |e| OpenError::system("remove", asked.address, e);
            let found = fs::symlink_metadata(&self.path).map_err(failed)?;
            if !found.file_type().is_fifo() {
                let kind = OpenErrorKind::WrongType {
                    found: "something else",
                };
                let cause = "it is not a FIFO";
                return Err(OpenError::new("remove", asked.address, kind, cause));
            }
            fs::remove_file(&self.path).map_err(failed)
        })
    }

    fn open_sender<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, MessageSender> {
        Box::pin(async move {
            let mut options = self.options(&asked);
            if asked.options.reconnect.is_some() {
                options.on_reader_gone(ReaderGone::Wait);
            }
            let sender = options.open_sender(&self.path).await?;
            let frames = SharedSender::new(sender, asked.options.framing.clone());
            Ok(MessageSender::frames(frames))
        })
    }

    fn open_receiver<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, MessageReceiver> {
        Box::pin(async move {
            let mut options = self.options(&asked);
            if !self.persist.unwrap_or(asked.options.persist) {
                let receiver = open_receiver(&options, &self.path).await?;
                return Ok(asked.options.receive(receiver, Pace::pipe()));
            }
            options.persist(true);
            let mut how = asked.options.clone();
            how.framing = how.framing.collecting();
            let receiver = open_receiver(&options, &self.path).await?;
            if how.watch_name.is_some() {
                return Ok(Followed::of(receiver, options, self.path.clone(), how));
            }
            Ok(how.receive(receiver, Pace::pipe()))
        })
    }
}

/// A writer that has the FIFO open keeps its unread bytes. After the last one, only this end does.
impl Half for Receiver {
    fn stop(&mut self) -> Rest {
        if self.is_last() {
            Rest::Comes
        } else {
            Rest::Stays
        }
    }
}
