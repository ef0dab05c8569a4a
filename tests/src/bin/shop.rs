//! A small web shop and its customers, for the demo and for recordings.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde_json::json;
use testkit::shop::{Options, Server, VisitConfig, visit};

/// A small web shop and its customers.
#[derive(Parser)]
#[command(
    after_help = "Example:\n  shop serve --listen 127.0.0.1:8080\n  shop client --addr 127.0.0.1:8080 --requests 40"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until killed; prints one line with the address when open.
    Serve {
        /// Address and port; port 0 takes any.
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
        /// Every so many checkouts one answers 500; 0: none.
        #[arg(long, default_value_t = 3)]
        fail_every: u64,
    },
    /// Visit a shop; prints one JSON line for each answer.
    Client {
        /// The shop's address and port.
        #[arg(long)]
        addr: SocketAddr,
        /// Requests in all.
        #[arg(long, default_value_t = 40)]
        requests: u32,
        /// Same seed, same requests.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Pause between two requests, in milliseconds.
        #[arg(long, default_value_t = 100)]
        interval: u64,
    },
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Serve { listen, fail_every } => {
            let server = Server::spawn(listen, Options { fail_every })?;
            println!("listening on {}", server.addr());
            server.wait();
        }
        Command::Client { addr, requests, seed, interval } => {
            let config = VisitConfig { addr, requests, seed, interval: Duration::from_millis(interval) };
            visit(&config, |v| {
                println!(
                    "{}",
                    json!({"client": v.client.to_string(), "request": v.request, "status": v.status})
                );
            })?;
        }
    }
    Ok(())
}
