//! The listener that children connect back to: it uses TLS and tells strangers nothing.
//!
//! A child that was bootstrapped over ssh may be offered to connect back. It is given, over that
//! ssh, where to, the listener's certificate, and a token that is good once; it is known by the
//! token, and knows the listener by the certificate. Frames continue as before, with their keys and
//! counters, and the ssh process ends.

use crate::broker::Shared;
use crate::child::Link;
use crate::error::Error;
use crate::sync::lock;
use econtext_proto::Value;
use rustix::event::{PollFd, PollFlags, poll};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection};
use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

/// The bytes of a token.
const TOKEN: usize = 32;

/// The time that a new connection may take to show a token.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most connections that have not shown a token yet.
const STRANGERS: usize = 64;

/// The most bytes that are read ahead of a side that is slower.
const AHEAD: usize = 1 << 20;

type Expected = Mutex<HashMap<[u8; TOKEN], (Weak<Link>, Weak<Shared>)>>;

/// A TCP port on which children of this controller may connect back; see
/// [`ContextBuilder::connect_back`](crate::ContextBuilder::connect_back). It listens until it is dropped; connections stay.
#[derive(Clone, Debug)]
pub struct Listener(Arc<Inner>);

struct Inner {
    port: u16,
    address: SocketAddr,
    /// The addresses that children are told; without any they try the one that their ssh came from.
    addresses: Vec<String>,
    certificate: String,
    expected: Arc<Expected>,
    ended: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.ended.store(1, Ordering::Release);
        // The thread is woken by a connection.
        let own = match self.address {
            SocketAddr::V4(_) => SocketAddr::from(([127, 0, 0, 1], self.port)),
            SocketAddr::V6(_) => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], self.port)),
        };
        let _ = TcpStream::connect_timeout(&own, Duration::from_millis(200));
    }
}

impl Listener {
    /// Listens on `address`, on any port with port 0. Children are told `names`, or, if there are
    /// none, connect to the address that their ssh came from.
    ///
    /// # Errors
    /// If the port cannot be bound, or no certificate made.
    ///
    /// ```no_run
    /// # use econtext::{Broker, Context, Listener, Ssh};
    /// # fn f(broker: &Broker) -> Result<(), econtext::Error> {
    /// let listener = Listener::bind("0.0.0.0:0", &[])?;
    /// let web = Context::builder("web01").connect_back(&listener).connect(broker, Ssh::new("web01"))?;
    /// # Ok(()) }
    /// ```
    pub fn bind(address: &str, names: &[&str]) -> Result<Self, Error> {
        let failed = |e| Error::local(None, format_args!("cannot listen on {address}"), e);
        let listener = TcpListener::bind(address).map_err(|e| match e.kind() {
            io::ErrorKind::InvalidInput => Error::Usage(format!("cannot listen on {address}: {e}")),
            _ => failed(e),
        })?;
        let address_of = listener.local_addr().map_err(failed)?;
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(|e| failed(io::Error::other(e)))?;
        // The name is not looked at: the child knows the certificate itself.
        let certificate = rcgen::CertificateParams::new(vec!["econtext".to_owned()])
            .and_then(|params| params.self_signed(&key))
            .map_err(|e| failed(io::Error::other(e)))?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map(|builder| builder.with_no_client_auth())
            .and_then(|builder| builder.with_single_cert(vec![certificate.der().clone()], private))
            .map_err(|e| failed(io::Error::other(e)))?;
        let expected: Arc<Expected> = Arc::default();
        let ended = Arc::new(AtomicUsize::new(0));
        let (tokens, over, config) = (expected.clone(), ended.clone(), Arc::new(config));
        std::thread::Builder::new()
            .name("econtext-back".into())
            .spawn(move || accept(&listener, &tokens, &over, &config))
            .map_err(failed)?;
        Ok(Listener(Arc::new(Inner {
            port: address_of.port(),
            address: address_of,
            addresses: names.iter().map(|name| (*name).to_owned()).collect(),
            certificate: certificate.pem(),
            expected,
            ended,
        })))
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// The offer that a child is given. A connection that shows its token is the child of that
    /// link.
    pub(crate) fn offer(&self, link: &Arc<Link>, shared: &Arc<Shared>) -> Option<Value> {
        let mut token = [0; TOKEN];
        getrandom::fill(&mut token).ok()?;
        let mut expected = lock(&self.0.expected);
        expected.retain(|_, (link, _)| link.strong_count() > 0);
        expected.insert(token, (Arc::downgrade(link), Arc::downgrade(shared)));
        Some(Value::Tuple(vec![
            Value::List(self.0.addresses.iter().map(|a| Value::from(a.as_str())).collect()),
            Value::Int(self.0.port.into()),
            Value::from(self.0.certificate.as_str()),
            Value::Bytes(token.to_vec()),
        ]))
    }
}

fn accept(listener: &TcpListener, expected: &Arc<Expected>, ended: &AtomicUsize, config: &Arc<ServerConfig>) {
    let strangers = Arc::new(AtomicUsize::new(0));
    for connection in listener.incoming() {
        if ended.load(Ordering::Acquire) != 0 {
            return;
        }
        let Ok(connection) = connection else {
            // No descriptor is left; others may end.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        if strangers.load(Ordering::Acquire) >= STRANGERS {
            continue; // the drop hangs up
        }
        strangers.fetch_add(1, Ordering::AcqRel);
        let (expected, config, count) = (expected.clone(), config.clone(), strangers.clone());
        let thread = std::thread::Builder::new().name("econtext-back".into()).stack_size(256 << 10);
        let started = thread.spawn(move || {
            let known = greet(connection, &expected, &config);
            count.fetch_sub(1, Ordering::AcqRel);
            if let Some((tcp, tls, pair)) = known {
                let _ = pump(tcp, tls, pair);
            }
        });
        if started.is_err() {
            strangers.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Reads a token, within time, and hands the connection over to the token's link.
fn greet(
    mut tcp: TcpStream,
    expected: &Expected,
    config: &Arc<ServerConfig>,
) -> Option<(TcpStream, ServerConnection, UnixStream)> {
    tcp.set_read_timeout(Some(PATIENCE)).ok()?;
    tcp.set_write_timeout(Some(PATIENCE)).ok()?;
    tcp.set_nodelay(true).ok()?;
    let _ = rustix::net::sockopt::set_socket_keepalive(&tcp, true);
    let _ = rustix::net::sockopt::set_tcp_keepidle(&tcp, Duration::from_secs(30));
    let mut tls = ServerConnection::new(config.clone()).ok()?;
    let mut token = [0; TOKEN];
    // A stranger may send slowly: each read has a time limit, and so has the whole.
    let until = std::time::Instant::now() + PATIENCE;
    let mut have = 0;
    while have < TOKEN {
        if std::time::Instant::now() > until {
            return None;
        }
        while tls.wants_write() {
            tls.write_tls(&mut tcp).ok()?;
        }
        match tls.reader().read(&mut token[have..]) {
            Ok(0) => return None,
            Ok(n) => {
                have += n;
                continue;
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
        if tls.read_tls(&mut tcp).ok()? == 0 {
            return None;
        }
        tls.process_new_packets().ok()?;
    }
    while tls.wants_write() {
        tls.write_tls(&mut tcp).ok()?;
    }
    let (link, shared) = lock(expected).remove(&token)?;
    let (link, shared) = (link.upgrade()?, shared.upgrade()?);
    let (ours, theirs) = UnixStream::pair().ok()?;
    ours.set_nonblocking(true).ok()?;
    theirs.set_nonblocking(true).ok()?;
    tcp.set_nonblocking(true).ok()?;
    link.on_back(OwnedFd::from(ours), &*shared);
    Some((tcp, tls, theirs))
}

/// Moves bytes between TLS and the link until either ends.
fn pump(mut tcp: TcpStream, mut tls: ServerConnection, mut pair: UnixStream) -> io::Result<()> {
    let again = |e: &io::Error| matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
    let mut to_link: Vec<u8> = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let mut over = false;
    loop {
        while tls.wants_write() {
            match tls.write_tls(&mut tcp) {
                Ok(_) => {}
                Err(e) if again(&e) => break,
                Err(e) => return Err(e),
            }
        }
        while !to_link.is_empty() {
            match pair.write(&to_link) {
                Ok(n) => drop(to_link.drain(..n)),
                Err(e) if again(&e) => break,
                Err(e) => return Err(e),
            }
        }
        if over && to_link.is_empty() {
            return Ok(());
        }
        let mut wanted = [PollFlags::empty(); 2];
        if to_link.len() < AHEAD && !over {
            wanted[0] |= PollFlags::IN;
        }
        if tls.wants_write() {
            wanted[0] |= PollFlags::OUT;
        } else {
            wanted[1] |= PollFlags::IN;
        }
        if !to_link.is_empty() {
            wanted[1] |= PollFlags::OUT;
        }
        let ready = {
            let mut files = [
                PollFd::from_borrowed_fd(tcp.as_fd(), wanted[0]),
                PollFd::from_borrowed_fd(pair.as_fd(), wanted[1]),
            ];
            match poll(&mut files, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
            files.map(|file| file.revents())
        };
        let readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        if wanted[0].contains(PollFlags::IN) && ready[0].intersects(readable) {
            match tls.read_tls(&mut tcp) {
                Ok(0) => over = true,
                Ok(_) => {
                    tls.process_new_packets().map_err(io::Error::other)?;
                }
                Err(e) if again(&e) => {}
                Err(e) => return Err(e),
            }
            loop {
                match tls.reader().read(&mut buffer) {
                    Ok(0) => {
                        over = true;
                        break;
                    }
                    Ok(n) => to_link.extend_from_slice(&buffer[..n]),
                    Err(e) if again(&e) => break,
                    Err(_) => {
                        over = true;
                        break;
                    }
                }
            }
        }
        if wanted[1].contains(PollFlags::IN) && ready[1].intersects(readable) {
            match pair.read(&mut buffer) {
                Ok(0) => {
                    tls.send_close_notify();
                    while tls.wants_write() && tls.write_tls(&mut tcp).is_ok() {}
                    return Ok(());
                }
                Ok(n) => tls.writer().write_all(&buffer[..n])?,
                Err(e) if again(&e) => {}
                Err(e) => return Err(e),
            }
        } else if ready[0].intersects(PollFlags::ERR) {
            return Ok(());
        }
    }
}
