*** Settings ***
Documentation       The firmware trains in Renode, and every word of what it computes is the host's.
...
...                 For Renode's own test runner, in the Python environment where deltatrain is installed:
...                 `renode-test tests/renode/training.robot`

Library             ${CURDIR}/DeltatrainLibrary.py


*** Test Cases ***
STM32F4 Discovery Trains As The Host Does
    Should Train In Renode    renode:stm32f4_discovery

NRF52840 DK Trains As The Host Does
    Should Train In Renode    renode:nrf52840dk_nrf52840


*** Keywords ***
Should Train In Renode
    [Documentation]    Builds the firmware for a target, runs it by the target's script, and trains ten steps.
    [Arguments]    ${target}
    ${elf}    ${script}    Build Firmware    ${target}
    ${port}    Free Port
    Execute Command    $elf=@${elf}
    Execute Command    $port=${port}
    Execute Command    include @${script}
    Should Train As The Host Does    ${port}
