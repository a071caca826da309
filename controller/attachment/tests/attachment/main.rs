//! What becomes of manifests: case by case, by properties, and how fast.

#[cfg(test)]
mod delivery;
#[cfg(test)]
mod goldens;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod speed;
#[cfg(test)]
mod world;
