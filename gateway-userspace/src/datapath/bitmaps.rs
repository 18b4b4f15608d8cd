//! Which part of `PORTS` is whose: one bitmap of source ports for each address of the gateway and each address and
//! port of a backend, whatever numbers the backend had or has. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::regions::{Region, Regions};

/// The bitmaps in use.
#[derive(Debug)]
pub struct Bitmaps {
    regions: Regions,
    words: u32,
    users: BTreeMap<(IpAddr, SocketAddr), Bitmap>,
}

#[derive(Debug)]
struct Bitmap {
    region: Region,
    users: usize,
}

impl Bitmaps {
    /// None in use. `total` words in all, `words` for each.
    pub fn new(total: u32, words: u32) -> Self {
        Self { regions: Regions::new(total), words, users: BTreeMap::new() }
    }

    /// Takes a bitmap into use that was given out before, and counts a user of it.
    pub fn adopt(&mut self, source: IpAddr, backend: SocketAddr, base: u32) {
        let region = Region { base, size: self.words };
        let bitmap = self.users.entry((source, backend)).or_insert(Bitmap { region, users: 0 });
        bitmap.users += 1;
        self.regions.adopt(bitmap.region);
    }

    /// The bitmap for a backend, one user more of it. `None` if there is no room.
    pub fn take(&mut self, source: IpAddr, backend: SocketAddr) -> Option<Region> {
        if let Some(bitmap) = self.users.get_mut(&(source, backend)) {
            bitmap.users += 1;
            return Some(bitmap.region);
        }
        let region = self.regions.allocate(self.words)?;
        self.users.insert((source, backend), Bitmap { region, users: 1 });
        Some(region)
    }

    /// Those in use: the gateway's address, the backend's, and the first word.
    pub fn all(&self) -> impl Iterator<Item = (IpAddr, SocketAddr, u32)> {
        self.users.iter().map(|((source, backend), bitmap)| (*source, *backend, bitmap.region.base))
    }

    /// One user less. Returns the bitmap if that was the last: it is free, and must be all zero.
    pub fn free(&mut self, source: IpAddr, backend: SocketAddr) -> Option<Region> {
        let bitmap = self.users.get_mut(&(source, backend))?;
        bitmap.users -= 1;
        if bitmap.users > 0 {
            return None;
        }
        let region = bitmap.region;
        self.users.remove(&(source, backend));
        self.regions.free(region);
        Some(region)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_comes_again_meets_the_ports_of_its_old_flows() {
        let (source, one, two) = ("10.0.0.1", "10.0.0.2:80", "10.0.0.3:80");
        let (source, one, two) = (source.parse().unwrap(), one.parse().unwrap(), two.parse().unwrap());
        let mut bitmaps = Bitmaps::new(10, 5);
        let first = bitmaps.take(source, one).unwrap();
        assert_eq!(bitmaps.take(source, one), Some(first));
        assert_ne!(bitmaps.take(source, two), Some(first));
        assert_eq!(bitmaps.take(source, "10.0.0.4:80".parse().unwrap()), None);
        assert_eq!(bitmaps.free(source, one), None);
        assert_eq!(bitmaps.take(source, one), Some(first));
        assert_eq!(bitmaps.free(source, one), None);
        assert_eq!(bitmaps.free(source, one), Some(first));
    }
}
