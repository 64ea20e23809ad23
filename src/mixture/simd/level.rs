//! The instruction sets that vector code is compiled for.

use std::sync::OnceLock;

use pulp::{Arch, Simd, WithSimd};

/// Names an instruction set, to use no wider one: `scalar`, `avx2`, `avx512` or `neon`. It is read once.
const VARIABLE: &str = "GMM_SIMD";

/// An instruction set that this machine has.
#[derive(Clone, Copy, Debug)]
pub struct Level(Arch);

impl Level {
    /// The widest one, unless the environment names another that this machine has.
    pub fn chosen() -> Self {
        static CHOSEN: OnceLock<Level> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let named = std::env::var(VARIABLE).unwrap_or_default();
            let all = Self::all();
            let chosen = all.iter().find(|level| level.name() == named).or(all.last());
            chosen.copied().unwrap_or(Self(Arch::Scalar))
        })
    }

    /// Whether the environment names none, or one that this machine has.
    ///
    /// # Errors
    /// A sentence that lists the names.
    pub fn check_named() -> Result<(), String> {
        let named = std::env::var_os(VARIABLE).unwrap_or_default();
        let names: Vec<&str> = Self::all().into_iter().map(Self::name).collect();
        if named.is_empty() || names.iter().any(|name| named == **name) {
            return Ok(());
        }
        Err(format!(
            "the environment variable {VARIABLE} is \"{}\", but the instruction sets of this machine are {}; set it to \
             one of them, or unset it",
            named.display(),
            names.join(", ")
        ))
    }

    /// All of this machine, from the narrowest to the widest.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self(Arch::Scalar)];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(pulp::x86::V3::try_new().map(|simd| Self(Arch::V3(simd))));
            all.extend(pulp::x86::V4::try_new().map(|simd| Self(Arch::V4(simd))));
        }
        #[cfg(target_arch = "aarch64")]
        all.push(Self(Arch::new()));
        all
    }

    /// What [`VARIABLE`] calls it.
    pub fn name(self) -> &'static str {
        match self.0 {
            Arch::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Arch::V3(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Arch::V4(_) => "avx512",
            _ => "neon",
        }
    }

    /// The instructions of AVX2, which wider sets have too.
    #[cfg(target_arch = "x86_64")]
    pub fn avx2(self) -> Option<pulp::x86::V3> {
        match self.0 {
            Arch::V3(simd) => Some(simd),
            Arch::V4(simd) => Some(*simd),
            _ => None,
        }
    }

    /// Vectors that its registers hold.
    pub fn registers(self) -> usize {
        self.run(Registers)
    }

    /// Runs `op`, compiled for it.
    pub fn run<Op: WithSimd>(self, op: Op) -> Op::Output {
        self.0.dispatch(op)
    }
}

struct Registers;

impl WithSimd for Registers {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::REGISTER_COUNT
    }
}
