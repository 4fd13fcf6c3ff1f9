# The demo's scripted agent: it reads its prompt, changes two files, commits one of them and leaves the other.
set -eu
cat > "$TMPDIR/prompt"
echo '{"type":"assistant","message":{"content":[{"type":"text","text":"I will add a greeting and mention it in the README."}]}}'
printf '#!/bin/sh\necho "Hello, ${1:-world}!"\n' > greet.sh
chmod +x greet.sh
git add greet.sh
git commit -q -m 'Add a greeting'
echo '{"type":"assistant","message":{"content":[{"type":"tool_use","name":"Edit","input":{"file_path":"README.md"}}]}}'
printf '\nRun `./greet.sh NAME` to be greeted.\n' >> README.md
test "$(./greet.sh runner)" = 'Hello, runner!'
echo '{"type":"result","subtype":"success","is_error":false,"terminal_reason":"completed","num_turns":2,"total_cost_usd":0,"usage":{"input_tokens":0,"output_tokens":0},"result":"Added greet.sh and mentioned it in the README. I ran it, and it greets."}'
