# Builds the files of sql/doctor into the binary, and what asks them.
get_filename_component(OUTFALL_DOCTOR_FOLDER "${CMAKE_CURRENT_SOURCE_DIR}/../../../sql/doctor" ABSOLUTE)
file(GLOB OUTFALL_DOCTOR_STATEMENTS CONFIGURE_DEPENDS "${OUTFALL_DOCTOR_FOLDER}/*.sql")
set(OUTFALL_EMBEDDED_STATEMENTS "${CMAKE_CURRENT_BINARY_DIR}/embedded_statements.cc")

add_custom_command(
  OUTPUT "${OUTFALL_EMBEDDED_STATEMENTS}"
  COMMAND ${CMAKE_COMMAND} "-DOUTPUT=${OUTFALL_EMBEDDED_STATEMENTS}" "-DFOLDER=${OUTFALL_DOCTOR_FOLDER}"
          -P "${CMAKE_CURRENT_SOURCE_DIR}/embed_statements.cmake"
  DEPENDS ${OUTFALL_DOCTOR_STATEMENTS} "${CMAKE_CURRENT_SOURCE_DIR}/embed_statements.cmake"
  COMMENT "Embedding the statements of doctor"
  VERBATIM)

target_sources(outfall_store_postgres PRIVATE examination.cc "${OUTFALL_EMBEDDED_STATEMENTS}")
