//! Makes the child's Python small: minimised, in the best zlib there is, for embedding.

use base64::Engine as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Directories below `agent/` with what is sent on first use.
const DIRECTORIES: [&str; 2] = ["imported", "in_core"];

fn main() -> io::Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("no OUT_DIR"))?);
    println!("cargo::rerun-if-changed=agent");
    // Line numbers of the first stage are never shown.
    let first_stage = compress(minimized(Path::new("first_stage.py"))?.trim_ascii_start())?;
    fs::write(out.join("first_stage.b64"), base64::prelude::BASE64_STANDARD.encode(first_stage))?;
    let mut core = minimized(Path::new("core.py"))?;
    core.push(b'\n');
    fs::write(out.join("core.z"), compress(&core)?)?;
    // Processes that multiprocessing starts ask for the core too.
    let mut table = vec![entry("core")];
    for directory in DIRECTORIES {
        let mut names = Vec::new();
        for found in fs::read_dir(Path::new("agent").join(directory))? {
            let path = found?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
            names.extend(stem.filter(|_| path.extension().is_some_and(|extension| extension == "py")));
        }
        names.sort();
        for name in names {
            let file = Path::new(directory).join(&name).with_extension("py");
            fs::write(out.join(&name).with_extension("z"), compress(&minimized(&file)?)?)?;
            table.push(entry(&name));
        }
    }
    fs::write(out.join("agent_modules.rs"), format!("&[{}]", table.join(", ")))
}

/// The name, the path in a traceback and the content of a module, as Rust.
fn entry(name: &str) -> String {
    format!(
        "(\"econtext.{name}\", \"econtext/{name}.py\", include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.z\")).as_slice())"
    )
}

fn minimized(file: &Path) -> io::Result<Vec<u8>> {
    let mut source = econtext_pysource::minimize(&fs::read(Path::new("agent").join(file))?);
    while source.ends_with(b"\n") {
        source.pop();
    }
    Ok(source)
}

fn compress(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let options = zopfli::Options {
        iteration_count: std::num::NonZeroU64::new(50).ok_or(io::ErrorKind::Other)?,
        ..Default::default()
    };
    zopfli::compress(options, zopfli::Format::Zlib, data, &mut out)?;
    Ok(out)
}
