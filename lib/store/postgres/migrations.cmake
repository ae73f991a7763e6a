# Builds the files of sql/migrations into the binary, and the migrator that applies them.
get_filename_component(OUTFALL_SQL_FOLDER "${CMAKE_CURRENT_SOURCE_DIR}/../../../sql/migrations" ABSOLUTE)
file(GLOB OUTFALL_MIGRATIONS CONFIGURE_DEPENDS "${OUTFALL_SQL_FOLDER}/[0-9]*.sql")
set(OUTFALL_EMBEDDED_MIGRATIONS "${CMAKE_CURRENT_BINARY_DIR}/embedded_migrations.cc")

add_custom_command(
  OUTPUT "${OUTFALL_EMBEDDED_MIGRATIONS}"
  COMMAND ${CMAKE_COMMAND} "-DOUTPUT=${OUTFALL_EMBEDDED_MIGRATIONS}" "-DFOLDER=${OUTFALL_SQL_FOLDER}"
          -P "${CMAKE_CURRENT_SOURCE_DIR}/embed_migrations.cmake"
  DEPENDS ${OUTFALL_MIGRATIONS} "${CMAKE_CURRENT_SOURCE_DIR}/embed_migrations.cmake"
  COMMENT "Embedding the migrations"
  VERBATIM)

target_sources(outfall_store_postgres PRIVATE migrator.cc "${OUTFALL_EMBEDDED_MIGRATIONS}")
# An object of its own, so that a program with other migrations leaves it out (tests/integration/run.cmake).
set_source_files_properties("${OUTFALL_EMBEDDED_MIGRATIONS}" PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
target_link_libraries(outfall_store_postgres PRIVATE OpenSSL::Crypto fmt::fmt)
