fn main() {
    for c in portcullis_api::crds() {
        println!("---\n{}", portcullis_api::to_yaml(&c).unwrap());
    }
}
