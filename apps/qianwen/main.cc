// Composition root: builds every part, owns it, and hands references down. One file per subcommand beside this one.
int main() { return 2; }
