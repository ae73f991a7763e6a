# What watches a worker, by the software that reads it: promtool, and a real Prometheus beside a real
# worker. They need the packages of `ops/install-dependencies operate`, and Debian's Python, for which
# these install a YAML reader.
set(python /usr/bin/python3 -B)

add_test(NAME alert_rules COMMAND ${python} ${CMAKE_SOURCE_DIR}/ops/prometheus/rules_test.py)
set_tests_properties(alert_rules PROPERTIES LABELS "unit;plain" TIMEOUT 300)

add_test(NAME dashboard
  COMMAND ${python} ${CMAKE_SOURCE_DIR}/ops/grafana/dashboard_test.py $<TARGET_FILE:outfall>)
set_tests_properties(dashboard PROPERTIES LABELS "integration;plain" TIMEOUT 300)

add_test(NAME dashboard_drawing COMMAND ${python} ${CMAKE_SOURCE_DIR}/ops/grafana/draw_test.py)
set_tests_properties(dashboard_drawing PROPERTIES LABELS "unit;plain" TIMEOUT 60)

# Every situation of the game day, several at a time: its alert fires within its time and no other
# critical one, and ends when the trouble is mended as the runbook says. Sixty times as fast as in
# life, so that a machine that is busy otherwise would look like a destination that is slow.
add_test(NAME game_day
  COMMAND ${python} ${CMAKE_SOURCE_DIR}/ops/game-day --test --jobs 4 --outfall $<TARGET_FILE:outfall>)
set_tests_properties(game_day PROPERTIES
  LABELS "integration;faults;plain;slow" RUN_SERIAL TRUE TIMEOUT 1800)
