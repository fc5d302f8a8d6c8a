//! [`Screen`]: where a conversation is shown.

use std::cell::RefCell;
use std::io;

use aqueduct::stdio::Stdout;
use terminal_size::terminal_size_of;
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

use super::editor::{Editor, Mode, Size, Typed};

/// How many bytes may wait to be written.
const WAITING: usize = 64 * 1024;
/// The size of a terminal that does not say how large it is.
const DEFAULT_SIZE: Size = (80, 24);

/// Standard output, shared by what is typed and what the peer says.
pub(super) struct Screen {
    inner: RefCell<Inner>,
    changed: Notify,
}

struct Inner {
    /// What is to be written.
    waiting: Vec<u8>,
    writing: bool,
    /// The last line that was shown has no end yet.
    begun: bool,
    /// While lines are typed.
    editor: Option<(Editor, Mode)>,
}

impl Inner {
    /// Takes what is to be written.
    fn take(&mut self) -> Vec<u8> {
        self.writing = !self.waiting.is_empty();
        std::mem::take(&mut self.waiting)
    }
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            inner: RefCell::new(Inner {
                waiting: Vec::new(),
                writing: false,
                begun: false,
                editor: None,
            }),
            changed: Notify::new(),
        }
    }

    /// Has lines typed at the terminal that is standard input and output.
    pub(super) fn edit(&self) -> io::Result<()> {
        let mode = Mode::keys(io::stdin())?;
        let mut out = String::new();
        let editor = Editor::new(size(), &mut out);
        self.inner.borrow_mut().editor = Some((editor, mode));
        self.push(out.as_bytes());
        Ok(())
    }

    /// Shows bytes that are fit to be shown, above a line that is typed.
    pub(super) fn show(&self, bytes: &[u8]) {
        let mut inner = self.inner.borrow_mut();
        match &mut inner.editor {
            None => {
                inner.waiting.extend_from_slice(bytes);
                inner.begun = bytes.last().map_or(inner.begun, |it| *it != b'\n');
            }
            Some((editor, _)) => {
                let mut out = String::new();
                // All of it is UTF-8 on a terminal, where the rest is escaped.
                editor.show(&String::from_utf8_lossy(bytes), &mut out);
                inner.waiting.extend_from_slice(out.as_bytes());
            }
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Shows a whole line above one that is typed; whether one is.
    pub(super) fn note(&self, line: &str) -> bool {
        let mut out = String::new();
        let mut inner = self.inner.borrow_mut();
        let Some((editor, _)) = &mut inner.editor else {
            return false;
        };
        editor.note(line, &mut out);
        drop(inner);
        self.push(out.as_bytes());
        true
    }

    /// Takes what the terminal sends.
    pub(super) fn press(&self, bytes: &[u8]) -> Vec<Typed> {
        let mut out = String::new();
        let mut inner = self.inner.borrow_mut();
        let Some((editor, _)) = &mut inner.editor else {
            return Vec::new();
        };
        let typed = editor.press(bytes, &mut out);
        drop(inner);
        self.push(out.as_bytes());
        typed
    }

    /// The terminal has another size, or comes back from a shell.
    pub(super) fn renew(&self) {
        let mut out = String::new();
        if let Some((editor, mode)) = &mut self.inner.borrow_mut().editor {
            // It fails where the terminal has gone.
            let _ = mode.set();
            editor.redraw(size(), &mut out);
        }
        self.push(out.as_bytes());
    }

    /// No more lines are typed: the terminal is as before.
    pub(super) fn end_editing(&self) {
        let mut out = String::new();
        if let Some((mut editor, _mode)) = self.inner.borrow_mut().editor.take() {
            editor.finish(&mut out);
        }
        self.push(out.as_bytes());
    }

    /// Ends a line that was begun, so that what a terminal shows next has a line to itself.
    pub(super) fn end_line(&self) {
        if std::mem::take(&mut self.inner.borrow_mut().begun) {
            self.push(b"\n");
        }
    }

    fn push(&self, bytes: &[u8]) {
        self.inner.borrow_mut().waiting.extend_from_slice(bytes);
        self.changed.notify_waiters();
    }

    /// Waits until there is room for more.
    pub(super) async fn room(&self) {
        self.until(|inner| inner.waiting.len() < WAITING).await;
    }

    /// Waits until all is written.
    pub(super) async fn written(&self) {
        self.until(|inner| inner.waiting.is_empty() && !inner.writing)
            .await;
    }

    async fn until(&self, reached: impl Fn(&Inner) -> bool) {
        loop {
            let changed = self.changed.notified();
            if reached(&self.inner.borrow()) {
                return;
            }
            changed.await;
        }
    }

    /// Writes what is to be shown, for as long as somebody can see it; ends with an error.
    pub(super) async fn write(&self, mut stdout: Stdout) -> io::Error {
        loop {
            let waiting = self.inner.borrow_mut().take();
            self.changed.notify_waiters();
            if waiting.is_empty() {
                tokio::select! {
                    biased;
                    () = self.until(|inner| !inner.waiting.is_empty()) => {}
                    () = stdout.closed() => return io::ErrorKind::BrokenPipe.into(),
                }
                continue;
            }
            let mut written = stdout.write_all(&waiting).await;
            if written.is_ok() {
                written = stdout.flush().await;
            }
            if let Err(error) = written {
                return error;
            }
        }
    }
}

fn size() -> Size {
    let (width, height) = terminal_size_of(io::stdout()).map_or((0, 0), |(width, height)| {
        (usize::from(width.0), usize::from(height.0))
    });
    let or = |it, default| if it == 0 { default } else { it };
    (or(width, DEFAULT_SIZE.0), or(height, DEFAULT_SIZE.1))
}
