// Found by the C++ compiler only where no libtorch is: .cargo/config.toml puts this folder last in its search path.
// A file that is not there ends the compilation at once, with its name as the message; `#error` would go on and on.
#include "libtorch is missing: run `make setup`"
