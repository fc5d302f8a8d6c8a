use std::path::Path;

use super::{Lane, Place};
use crate::fault::Fault;
use crate::figures::Figures;
use crate::ledger::Progress;
use crate::message::Sizes;
use crate::peer::{End, Role, WINDOW};
use crate::process::Process;

const CLIENTS: usize = 3;

/// Clients that send to a server and wait for its answers, over sockets.
///
/// The contract: what was answered was received, once, whole and in order. With a connection that
/// breaks (either process was killed, or the network is gone) goes at most what was not answered yet,
/// which a client bounds by its window.
#[derive(Debug)]
pub(crate) struct Sockets {
    place: Place,
    address: String,
    /// A path that the server makes.
    file: bool,
    sizes: Sizes,
}

impl Sockets {
    pub(crate) fn new(place: Place, scheme: &str) -> Self {
        let largest = match scheme {
            "unixpacket" => 30_000,
            _ => 200_000,
        };
        Self {
            address: place.address(scheme, "link"),
            place,
            file: scheme != "tcp",
            sizes: Sizes {
                usual: 600,
                largest,
            },
        }
    }
}

impl Lane for Sockets {
    fn place(&mut self) -> &mut Place {
        &mut self.place
    }

    async fn session(&mut self, notes: &Path, figures: &mut Figures) -> anyhow::Result<()> {
        let mut servers = vec![self.server(notes)?];
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let count = fastrand::u64(2_000..8_000);
            clients.push(self.client(notes, count)?);
        }
        for _ in 0..fastrand::u8(1..5) {
            let Some(server) = servers.last_mut() else {
                break;
            };
            let client = &mut clients[fastrand::usize(..CLIENTS)];
            client.moves(fastrand::u64(1..1_500)).await?;
            match fastrand::u8(..8) {
                0 => server.pause(figures).await?,
                1 => client.pause(figures).await?,
                2 | 3 => client.kill(figures).await?,
                kind => {
                    if self.file && kind == 4 {
                        // Those who are connected go on; the next server makes it anew.
                        server.opens().await?;
                        std::fs::remove_file(self.place.path())?;
                        figures.did(Fault::Unlink);
                        client.moves(fastrand::u64(1..100)).await?;
                    }
                    server.kill(figures).await?;
                    let another = self.server(notes)?;
                    servers.push(another);
                }
            }
        }
        for client in &mut clients {
            client.finish(figures, &[End::Whole]).await?;
        }
        if let Some(server) = servers.last_mut() {
            server.stop();
            server.finish(figures, &[End::Whole]).await?;
        }
        self.judge(&clients, &servers, figures);
        Ok(())
    }
}

impl Sockets {
    fn judge(&self, clients: &[Process], servers: &[Process], figures: &mut Figures) {
        let received: Vec<_> = servers.iter().map(Process::received).collect();
        // What was answered has been received, whatever happened since.
        for client in clients {
            let mut noted: Vec<_> = received.iter().flatten().flatten().collect();
            noted.sort_unstable();
            let answered = client.answered();
            let missing = answered.iter().flatten();
            let missing = missing
                .filter(|it| noted.binary_search(it).is_err())
                .count();
            if missing > 0 {
                figures.lost_beyond += missing as u64;
                figures.wrong(format!("{missing} were answered and not received"));
            }
        }
        let sent: Vec<_> = clients.iter().map(|it| (it.id(), it.sent())).collect();
        // The rest of a connection that was cut may come beside the messages of the next one. Each server
        // checks the order of each connection.
        let missing = figures.compare_in_any_order(&sent, &received);
        let killed = servers.iter().filter(|it| it.killed).count() as u64;
        for client in clients {
            let Progress { breaks, cuts, .. } = client.sent();
            figures.faults.count(Fault::Cut, cuts);
            // One that comes again at once may meet the killed server's listener, which goes last.
            if breaks > cuts + 2 * killed {
                figures.wrong(format!(
                    "{breaks} connections broke: {cuts} were cut, {killed} servers were killed"
                ));
            }
            let breaks = breaks + u64::from(client.killed);
            figures.breaks += breaks;
            let lost = missing.get(&client.id()).map_or(0, |it| it.len() as u64);
            figures.losses(lost, breaks * WINDOW, "one window for each break");
        }
    }

    fn server(&mut self, notes: &Path) -> anyhow::Result<Process> {
        let role = Role::Serve {
            address: self.address.clone(),
        };
        Process::start(notes, self.place.id(), role, None)
    }

    fn client(&mut self, notes: &Path, count: u64) -> anyhow::Result<Process> {
        let role = Role::Call {
            address: self.address.clone(),
            sizes: self.sizes,
            count,
            cut_every: 3_000,
        };
        Process::start(notes, self.place.id(), role, None)
    }
}
