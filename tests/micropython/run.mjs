// Run a Python program in MicroPython under node: node run.mjs FOLDER PROGRAM.PY [HEAP_BYTES]
//
// FOLDER becomes the root of MicroPython's files, which it cannot write back; what the program prints goes to standard
// output as it comes, and an exception ends it with exit status 1 and the traceback on standard error.
import { loadMicroPython } from "@micropython/micropython-webassembly-pyscript";
import { readdirSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";

const [folder, program, heapBytes = "4000000"] = process.argv.slice(2);

const mp = await loadMicroPython({
    heapsize: Number(heapBytes),
    linebuffer: false,
    stdout: (data) => writeSync(1, data),
    stderr: (data) => writeSync(2, data),
});

function copy(from, to) {
    for (const entry of readdirSync(from, { withFileTypes: true })) {
        const source = join(from, entry.name);
        const target = `${to}/${entry.name}`;
        if (entry.isDirectory()) {
            mp.FS.mkdir(target);
            copy(source, target);
        } else {
            mp.FS.writeFile(target, readFileSync(source));
        }
    }
}

copy(folder, "");
mp.runPython("import sys; sys.path[:] = ['/', '.frozen']");
try {
    mp.runPython(readFileSync(join(folder, program), "utf8"));
} catch (error) {
    console.error(error.message);
    process.exitCode = 1;
}
