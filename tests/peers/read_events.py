"""The scalars of a folder's event files as TensorBoard has them: {tag: [[step, value], ...]}."""
import json
import sys

from tensorboard.backend.event_processing import event_accumulator, event_file_loader

folder = sys.argv[1]
events = event_accumulator.EventAccumulator(folder, size_guidance={"scalars": 0})
events.Reload()
scalars = {tag: [[e.step, repr(e.value)] for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
# Every event that is in the files, purged or not.
stored = 0
for path in sys.argv[2:]:
    stored += sum(1 for event in event_file_loader.EventFileLoader(path).Load() if event.HasField("summary"))
print(json.dumps({"scalars": scalars, "stored": stored}))
